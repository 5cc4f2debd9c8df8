from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.semantic import SemanticMetric

NAMES = ("sky", "road", "car", "pole")


KINDS = ("iou", "accuracy", "boundary_iou", "boundary_f")
MEANS = ("miou", "mean_accuracy", "pixel_accuracy", "boundary_iou", "boundary_f")


def _metric(num_classes: int = 4, *, ignore_index: int = 255, boundary_ratio: float | None = None) -> SemanticMetric:
    names = tuple(str(index) for index in range(num_classes))
    return SemanticMetric(MetricSettings(names, boundary_ratio=boundary_ratio), ignore_index)


def _scores(
    *pairs: tuple[Tensor, Tensor],
    num_classes: int = 4,
    ignore_index: int = 255,
    boundary_ratio: float | None = None,
) -> dict[str, float]:
    metric = _metric(num_classes, ignore_index=ignore_index, boundary_ratio=boundary_ratio)
    for prediction, target in pairs:
        metric.update(prediction, target)
    return metric.compute()


def _of_class(scores: dict[str, float], index: int) -> list[float]:
    return [scores[f"{kind}/{index}"] for kind in KINDS]


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
    assert [scores[f"iou/{index}"] for index in range(4)] == pytest.approx([200 / 3, 300 / 5, 0, 0])
    assert scores["miou"] == pytest.approx((200 / 3 + 60) / 4)
    accuracy = [scores[f"accuracy/{index}"] for index in range(4)]
    assert accuracy[:3] == pytest.approx([200 / 3, 100, 0])
    assert math.isnan(accuracy[3])  # predicted, but not in the ground truth
    assert scores["mean_accuracy"] == pytest.approx((200 / 3 + 100) / 3)
    assert scores["pixel_accuracy"] == pytest.approx(500 / 8)


def test_boundary_scores_by_hand() -> None:
    """A square of 5x5 predicted one column too far to the right, in 9x9: the band is one pixel wide."""
    target, prediction = torch.zeros(2, 9, 9, dtype=torch.int64)
    target[2:7, 2:7] = 1
    prediction[2:7, 3:8] = 1
    square = _scores((prediction, target), num_classes=2)
    assert square["boundary_iou/1"] == pytest.approx(100 * 8 / 24)
    assert square["boundary_f/1"] == pytest.approx(100)  # every contour pixel lies within a pixel
    assert square["iou/1"] == pytest.approx(100 * 20 / 30)


def test_boundary_f_by_hand() -> None:
    target, prediction = torch.zeros(2, 10, 40, dtype=torch.int64)
    target[:, 5], target[:, 20] = 1, 1
    prediction[:, 6], prediction[:, 12], prediction[:, 35] = 1, 1, 1
    scores = _scores((prediction, target), num_classes=2)
    precision, recall = 1 / 3, 1 / 2
    expected = 2 * precision * recall / (precision + recall)
    assert scores["boundary_f/1"] == pytest.approx(100 * expected)


def test_a_class_on_one_side_only_has_boundary_f_zero() -> None:
    target, prediction = torch.zeros(2, 10, 10, dtype=torch.int64)
    target[:5], prediction[5:] = 1, 2
    scores = _scores((prediction, target), num_classes=4)
    assert [scores["boundary_f/1"], scores["boundary_f/2"]] == [0, 0]
    assert [scores["boundary_iou/1"], scores["boundary_iou/2"]] == [0, 0]
    assert math.isnan(scores["boundary_f/3"])


def _slow_reference(pairs: list[tuple[Tensor, Tensor]], classes: int, ratio: float) -> dict[str, float]:
    """The definitions, one class and one mask at a time."""
    names = ("iou", "accuracy", "boundary_iou")
    sums = {name: np.zeros((classes, 2)) for name in names} | {"f": np.zeros((classes, 4))}
    for prediction, target in ((p.numpy(), t.numpy()) for p, t in pairs):
        counted = target != 255
        width = max(1, round(ratio * (target.shape[0] ** 2 + target.shape[1] ** 2) ** 0.5))
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


@pytest.mark.parametrize("ratio", [0.005, 0.03])
def test_agrees_with_the_definitions(ratio: float) -> None:
    pairs = _pairs()
    scores = _scores(*pairs, boundary_ratio=ratio)
    expected = _slow_reference(pairs, 4, ratio)
    got = [scores[name] for name in ("miou", "mean_accuracy", "boundary_iou", "boundary_f")]
    assert got == pytest.approx([100 * value for value in expected.values()])
    assert all(5 < value < 99 for value in got)  # the case says something


def test_perfect_prediction_scores_100() -> None:
    pairs = []
    for prediction, target in _pairs():
        perfect = torch.where(target == 255, prediction, target)
        pairs.append((perfect, target))
    scores = _scores(*pairs)
    assert [scores[name] for name in MEANS] == [100, 100, 100, 100, 100]


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
    for name in MEANS:
        mean = sum(single[name] for single in singles) / len(singles)
        assert abs(whole[name] - mean) > 1, name


def test_classes_that_never_occur_are_left_out() -> None:
    pairs = _pairs()
    few, many = _scores(*pairs), _scores(*pairs, num_classes=9)
    for index in range(4):
        assert _of_class(many, index) == _of_class(few, index)
    for name in ("miou", "boundary_iou", "boundary_f"):
        assert many[name] == few[name]
    assert all(math.isnan(value) for index in range(4, 9) for value in _of_class(many, index))


def test_more_classes_than_a_byte_holds() -> None:
    pairs = _pairs()
    spread = [(p * 100, torch.where(t == 255, -1, t * 100)) for p, t in pairs]
    wide, narrow = _scores(*spread, num_classes=301, ignore_index=-1), _scores(*pairs)
    for index in range(4):
        assert _of_class(wide, 100 * index) == _of_class(narrow, index)


def test_dtypes_do_not_matter() -> None:
    pairs = _pairs()
    expected = _scores(*pairs)
    for dtype in (torch.uint8, torch.int32, torch.uint16):
        assert _scores(*((p.to(dtype), t.to(dtype)) for p, t in pairs)) == expected


def test_binary_masks() -> None:
    target = torch.zeros(20, 20, dtype=torch.uint8)
    target[5:15, 5:15] = 1
    scores = _scores((target.bool(), target), num_classes=2)
    assert (scores["miou"], scores["boundary_iou"]) == (100, 100)


def test_update_leaves_its_inputs_alone() -> None:
    (prediction, target), *_ = _pairs()
    copies = prediction.clone(), target.clone()
    _metric().update(prediction, target)
    assert torch.equal(prediction, copies[0])
    assert torch.equal(target, copies[1])


def test_nothing_counted_gives_nan() -> None:
    void = torch.full((6, 6), 255)
    for scores in (_scores(), _scores((torch.zeros_like(void), void))):
        assert math.isnan(scores["miou"])
        assert math.isnan(scores["pixel_accuracy"])
        assert math.isnan(scores["boundary_f"])


def _gathered(first: SemanticMetric, second: SemanticMetric) -> None:
    """Synchronises `first` as torchmetrics does where `second` is in another process."""
    others = iter([second.confusion, second.bands, second.contours])
    first.sync(dist_sync_fn=lambda own, group: [own, next(others)], distributed_available=lambda: True)


def test_counts_of_processes_add_up() -> None:
    pairs = _pairs()
    first, second, third = _metric(), _metric(), _metric()
    for metric in (first, third):
        metric.update(*pairs[0])
    for pair in pairs[1:]:
        second.update(*pair)
    _gathered(first, second)
    third.merge_state(second)
    expected = _scores(*pairs)
    assert first.compute() == expected
    assert third.compute() == expected
    assert second.compute() == _scores(*pairs[1:])


def test_numbers_of_one_process_do_not_wait_for_others() -> None:
    """Training evaluates in the first process alone."""
    metric = _metric()
    metric.dist_sync_fn = lambda *_: pytest.fail("the other processes were asked")
    metric.distributed_available_fn = lambda: True
    metric.update(*_pairs(1)[0])
    assert metric.compute() == _scores(_pairs(1)[0])


def test_state_stays_as_it_was_handed_out() -> None:
    pairs = _pairs()
    metric = _metric()
    metric.update(*pairs[0])
    state = metric.metric_state
    copies = {name: value.clone() for name, value in state.items()}
    metric.update(*pairs[1])
    assert all(torch.equal(state[name], value) for name, value in copies.items())


def test_counting_goes_on_after_sync() -> None:
    pairs = _pairs()
    first, second = _metric(), _metric()
    first.update(*pairs[0])
    second.update(*pairs[1])
    _gathered(first, second)
    assert first.compute() == _scores(*pairs[:2])
    first.update(*pairs[2])
    assert first.compute() == _scores(pairs[0], pairs[2])


def test_state_of_other_classes_is_refused_and_nothing_added() -> None:
    metric = _metric()
    metric.update(*_pairs(1)[0])
    before = metric.compute()
    with pytest.raises(RuntimeError, match="size of tensor"):
        metric.merge_state(_metric(5))
    metric.compute_with_cache = False
    assert metric.compute() == before


def test_reset_forgets_everything() -> None:
    pairs = _pairs()
    metric = _metric()
    metric.update(*pairs[0])
    metric.reset()
    metric.update(*pairs[1])
    assert metric.compute() == _scores(pairs[1])


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
    metric = _metric()
    with pytest.raises(ValueError, match=message) as caught:
        metric.update(prediction, target)
    assert "\n" not in str(caught.value)
    assert all(value.sum() == 0 for value in metric.metric_state.values())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="class_names must be at least 2"):
        _metric(1)
    with pytest.raises(ValueError, match="boundary_ratio must be between 0 and 1, got 0"):
        _metric(2, boundary_ratio=0)
    for names in (("a", "b", "c", "a"), ()):
        with pytest.raises(ValueError, match="class_names must be distinct names, at least one"):
            MetricSettings(names)


def test_names_of_the_numbers() -> None:
    target = torch.zeros(8, 8, dtype=torch.int64)
    target[:, 4:] = 1
    metric = SemanticMetric(MetricSettings(NAMES))
    metric.update(target, target)
    scores = metric.compute()
    expected = dict.fromkeys(MEANS, 100.0)
    for name, score in zip(NAMES, (100.0, 100.0, math.nan, math.nan), strict=True):
        expected |= {f"{kind}/{name}": score for kind in KINDS}
    assert scores == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_missing_torchmetrics_names_the_install_command() -> None:
    code = "import sys; sys.modules['torchmetrics'] = None; from pointrend.metrics import METRICS"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: evaluation needs torchmetrics: pip install 'pointrend[train]'"
    )


def test_import_does_not_load_torchmetrics() -> None:
    code = "import sys, pointrend.metrics; sys.exit('torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
