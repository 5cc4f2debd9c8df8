from __future__ import annotations

import builtins
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pointrend.metrics import SemanticMetrics, SemanticScores

NAMES = ("sky", "road", "car", "pole")


def _scores(*pairs: tuple[Tensor, Tensor], num_classes: int = 4, **settings: float) -> SemanticScores:
    metrics = SemanticMetrics(num_classes, **settings)  # type: ignore[arg-type]
    for prediction, target in pairs:
        metrics.update(prediction, target)
    return metrics.compute()


def _scene(seed: int, size: tuple[int, int] = (60, 80), classes: int = 4) -> Tensor:
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return torch.from_numpy(ndimage.gaussian_filter(noise, (0, 6, 6)).argmax(0))


def _pairs(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Predictions that are shifted and partly wrong, of different sizes, with ignored pixels."""
    pairs = []
    for seed in range(count):
        target = _scene(seed, size=(50 + 7 * seed, 80 - 9 * seed))
        prediction = target.roll((1, 2), (0, 1))
        prediction[20:30, 10:30] = _scene(90 + seed)[20:30, 10:30]
        target[5:15, 30:45] = 255
        pairs.append((prediction, target))
    return pairs


def test_region_scores_by_hand() -> None:
    target = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]])
    prediction = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 3]])
    scores = _scores((prediction, target))
    assert [c.iou for c in scores.per_class] == pytest.approx([200 / 3, 300 / 5, 0, 0])
    assert scores.miou == pytest.approx((200 / 3 + 60) / 4)
    accuracy = [c.accuracy for c in scores.per_class]
    assert accuracy[:3] == pytest.approx([200 / 3, 100, 0])
    assert math.isnan(accuracy[3])  # predicted, but not in the ground truth
    assert scores.mean_accuracy == pytest.approx((200 / 3 + 100) / 3)
    assert scores.pixel_accuracy == pytest.approx(500 / 8)


def test_boundary_scores_by_hand() -> None:
    """A square of 5x5 predicted one column too far to the right, in 9x9: the band is one pixel wide."""
    target, prediction = torch.zeros(2, 9, 9, dtype=torch.int64)
    target[2:7, 2:7] = 1
    prediction[2:7, 3:8] = 1
    square = _scores((prediction, target), num_classes=2).per_class[1]
    assert square.boundary_iou == pytest.approx(100 * 8 / 24)
    assert square.boundary_f == pytest.approx(100)  # every contour pixel lies within a pixel
    assert square.iou == pytest.approx(100 * 20 / 30)


def test_boundary_f_by_hand() -> None:
    target, prediction = torch.zeros(2, 10, 40, dtype=torch.int64)
    target[:, 5], target[:, 20] = 1, 1
    prediction[:, 6], prediction[:, 12], prediction[:, 35] = 1, 1, 1
    scores = _scores((prediction, target), num_classes=2)
    precision, recall = 1 / 3, 1 / 2
    expected = 2 * precision * recall / (precision + recall)
    assert scores.per_class[1].boundary_f == pytest.approx(100 * expected)


def test_a_class_on_one_side_only_has_boundary_f_zero() -> None:
    target, prediction = torch.zeros(2, 10, 10, dtype=torch.int64)
    target[:5], prediction[5:] = 1, 2
    scores = _scores((prediction, target), num_classes=4)
    assert [c.boundary_f for c in scores.per_class[1:3]] == [0, 0]
    assert [c.boundary_iou for c in scores.per_class[1:3]] == [0, 0]
    assert math.isnan(scores.per_class[3].boundary_f)


def _slow_reference(pairs: list[tuple[Tensor, Tensor]], classes: int, share: float) -> dict[str, float]:
    """The definitions, one class and one mask at a time."""
    names = ("iou", "accuracy", "boundary_iou")
    sums = {name: np.zeros((classes, 2)) for name in names} | {"f": np.zeros((classes, 4))}
    for prediction, target in ((p.numpy(), t.numpy()) for p, t in pairs):
        counted = target != 255
        width = max(1, round(share * (target.shape[0] ** 2 + target.shape[1] ** 2) ** 0.5))
        for label in range(classes):
            masks = [(labels == label) & counted for labels in (prediction, target)]
            bands, contours = (
                [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), iterations=w, border_value=0) for m in masks]
                for w in (width, 1)
            )
            both, either = masks[0] & masks[1], masks[0] | masks[1]
            sums["iou"][label] += both.sum(), either.sum()
            sums["accuracy"][label] += both.sum(), masks[1].sum()
            sums["boundary_iou"][label] += (bands[0] & bands[1]).sum(), (bands[0] | bands[1]).sum()
            square = np.ones((2 * width + 1, 2 * width + 1))
            near = [ndimage.binary_dilation(contour, square) for contour in contours]
            matched = [(contours[0] & near[1]).sum(), (contours[1] & near[0]).sum()]
            sums["f"][label] += matched[0], contours[0].sum(), matched[1], contours[1].sum()
    scores = {name: float(np.mean([a / b for a, b in sums[name] if b > 0])) for name in names}
    f = [2 * (a / b) * (c / d) / (a / b + c / d) for a, b, c, d in sums["f"] if b > 0 and d > 0]
    return scores | {"f": float(np.mean(f))}


@pytest.mark.parametrize("share", [0.005, 0.03])
def test_agrees_with_the_definitions(share: float) -> None:
    pairs = _pairs()
    scores = _scores(*pairs, boundary_share=share)
    expected = _slow_reference(pairs, 4, share)
    got = (scores.miou, scores.mean_accuracy, scores.boundary_iou, scores.boundary_f)
    assert got == pytest.approx([100 * value for value in expected.values()])
    assert all(5 < value < 99 for value in got)  # the case says something


def test_perfect_prediction_scores_100() -> None:
    pairs = []
    for prediction, target in _pairs():
        perfect = torch.where(target == 255, prediction, target)
        pairs.append((perfect, target))
    scores = _scores(*pairs)
    means = (scores.miou, scores.mean_accuracy, scores.pixel_accuracy, scores.boundary_iou, scores.boundary_f)
    assert means == (100, 100, 100, 100, 100)


def test_ignored_pixels_change_nothing() -> None:
    pairs = _pairs()
    reference = _scores(*pairs)
    for filling in (0, 3, 77, 255):  # also values that are no class
        changed = [(torch.where(target == 255, filling, prediction), target) for prediction, target in pairs]
        assert _scores(*changed) == reference


def test_another_ignore_index() -> None:
    pairs = _pairs()
    moved = [(prediction, torch.where(target == 255, -1, target)) for prediction, target in pairs]
    assert _scores(*moved, ignore_index=-1) == _scores(*pairs)


def test_sums_over_the_data_set_not_means_of_images() -> None:
    large, small, wrong = torch.zeros(60, 80).long(), torch.zeros(12, 12).long(), torch.zeros(12, 12).long()
    large[20:40, 20:50], small[:, 6:], wrong[:, 2:] = 1, 1, 1
    pairs = [(large, large), (wrong, small)]
    whole = _scores(*pairs)
    singles = [_scores(pair) for pair in pairs]
    for name in ("miou", "mean_accuracy", "pixel_accuracy", "boundary_iou", "boundary_f"):
        mean = sum(getattr(single, name) for single in singles) / len(singles)
        assert abs(getattr(whole, name) - mean) > 1, name


def test_classes_that_never_occur_are_left_out() -> None:
    pairs = _pairs()
    few, many = _scores(*pairs), _scores(*pairs, num_classes=9)
    assert many.per_class[:4] == few.per_class
    assert (many.miou, many.boundary_iou, many.boundary_f) == (few.miou, few.boundary_iou, few.boundary_f)
    assert all(math.isnan(value) for c in many.per_class[4:] for value in vars(c).values())


def test_more_classes_than_a_byte_holds() -> None:
    pairs = _pairs()
    spread = [(p * 100, torch.where(t == 255, -1, t * 100)) for p, t in pairs]
    wide, narrow = _scores(*spread, num_classes=301, ignore_index=-1), _scores(*pairs)
    assert wide.per_class[::100] == narrow.per_class


def test_dtypes_do_not_matter() -> None:
    pairs = _pairs()
    expected = _scores(*pairs)
    for dtype in (torch.uint8, torch.int32, torch.uint16):
        assert _scores(*((p.to(dtype), t.to(dtype)) for p, t in pairs)) == expected


def test_binary_masks() -> None:
    target = torch.zeros(20, 20, dtype=torch.uint8)
    target[5:15, 5:15] = 1
    scores = _scores((target.bool(), target), num_classes=2)
    assert (scores.miou, scores.boundary_iou) == (100, 100)


def test_update_leaves_its_inputs_alone() -> None:
    (prediction, target), *_ = _pairs()
    copies = prediction.clone(), target.clone()
    SemanticMetrics(4).update(prediction, target)
    assert torch.equal(prediction, copies[0])
    assert torch.equal(target, copies[1])


def test_nothing_counted_gives_nan() -> None:
    void = torch.full((6, 6), 255)
    for scores in (_scores(), _scores((torch.zeros_like(void), void))):
        assert math.isnan(scores.miou)
        assert math.isnan(scores.pixel_accuracy)
        assert math.isnan(scores.boundary_f)


def test_counts_of_processes_add_up() -> None:
    pairs = _pairs()
    first, second = SemanticMetrics(4), SemanticMetrics(4)
    first.update(*pairs[0])
    for pair in pairs[1:]:
        second.update(*pair)
    summed = {name: value + second.state()[name] for name, value in first.state().items()}
    loaded = SemanticMetrics(4)
    loaded.update(*pairs[0])  # replaced
    loaded.load(summed)
    first.add(second.state())
    expected = _scores(*pairs)
    assert first.compute() == expected
    assert loaded.compute() == expected
    assert second.compute() == _scores(*pairs[1:])


def test_state_is_a_copy() -> None:
    metrics = SemanticMetrics(4)
    metrics.update(*_pairs(1)[0])
    before = metrics.compute()
    for value in metrics.state().values():
        value.zero_()  # as an all-reduce in place might change it
    assert metrics.compute() == before
    state = metrics.state()
    metrics.load(state)
    for value in state.values():
        value.zero_()
    assert metrics.compute() == before


def test_counting_goes_on_after_load() -> None:
    pairs = _pairs()
    first, second = SemanticMetrics(4), SemanticMetrics(4)
    first.update(*pairs[0])
    second.load(first.state())
    for pair in pairs[1:]:
        second.update(*pair)
    assert second.compute() == _scores(*pairs)


def test_state_of_other_classes_is_refused_and_nothing_added() -> None:
    metrics = SemanticMetrics(4)
    metrics.update(*_pairs(1)[0])
    before = metrics.compute()
    with pytest.raises(ValueError, match="metrics state must have shapes"):
        metrics.add(SemanticMetrics(5).state())
    assert metrics.compute() == before


BAD = [
    (torch.zeros(4, 4).long(), torch.zeros(4, 5).long(), r"same size, got \(4, 4\) and \(4, 5\)"),
    (torch.zeros(1, 4, 4).long(), torch.zeros(1, 4, 4).long(), r"one image \(H, W\), got \(1, 4, 4\)"),
    (torch.zeros(4, 0).long(), torch.zeros(4, 0).long(), r"one image \(H, W\), got \(4, 0\)"),
    (torch.zeros(4, 4), torch.zeros(4, 4).long(), "prediction must hold integer class indices"),
    (torch.zeros(4, 4).long(), torch.zeros(4, 4), "target must hold integer class indices"),
    (torch.full((4, 4), 4), torch.zeros(4, 4).long(), "prediction must hold classes 0 to 3, got 4"),
    (torch.full((4, 4), 255), torch.zeros(4, 4).long(), "prediction must hold classes 0 to 3, got 255"),
    (torch.full((4, 4), -1), torch.zeros(4, 4).long(), "prediction must hold classes 0 to 3, got -1"),
    (
        torch.zeros(4, 4).long(),
        torch.full((4, 4), 9),
        r"target must hold classes 0 to 3 or 255 \(ign.*\), got 9",
    ),
]


@pytest.mark.parametrize(("prediction", "target", "message"), BAD)
def test_wrong_maps_are_refused_in_one_line(prediction: Tensor, target: Tensor, message: str) -> None:
    metrics = SemanticMetrics(4)
    with pytest.raises(ValueError, match=message) as caught:
        metrics.update(prediction, target)
    assert "\n" not in str(caught.value)
    assert all(value.sum() == 0 for value in metrics.state().values())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        SemanticMetrics(1)
    with pytest.raises(ValueError, match="boundary_share must be between 0 and 1, got 0"):
        SemanticMetrics(2, boundary_share=0)


def test_to_dict_is_strict_json() -> None:
    target = torch.zeros(8, 8, dtype=torch.int64)
    target[:, 4:] = 1
    scores = _scores((target, target))
    data = scores.to_dict(NAMES)
    assert json.loads(json.dumps(data, allow_nan=False)) == {
        **dict.fromkeys(("miou", "mean_accuracy", "pixel_accuracy", "boundary_iou", "boundary_f"), 100.0),
        "per_class": {
            name: dict.fromkeys(("iou", "accuracy", "boundary_iou", "boundary_f"), score)
            for name, score in zip(NAMES, (100.0, 100.0, None, None), strict=True)
        },
    }


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c", "a")])
def test_to_dict_refuses_names_that_do_not_fit(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected 4 distinct class names"):
        _scores(_pairs(1)[0]).to_dict(names)


@pytest.fixture
def without_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torchmetrics"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_torchmetrics")
def test_missing_torchmetrics_names_the_install_command() -> None:
    with pytest.raises(ImportError, match=r"pip install 'pointrend\[train\]'"):
        SemanticMetrics(4)


def test_import_does_not_load_torchmetrics() -> None:
    code = "import sys, pointrend.metrics; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
