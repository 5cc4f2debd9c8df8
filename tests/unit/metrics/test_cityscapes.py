from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_masks

from pointrend.metrics.base import MetricSettings
from pointrend.metrics.cityscapes import CITYSCAPES_CLASSES, CityscapesMetric
from pointrend.metrics.instances import ImageInstances

SIZE = (100, 160)
ROAD, PERSON, CAR, VOID = 7, 24, 26, 4  # label ids; a label id of a class with instances alone marks a group
Box = tuple[int, int, int, int]
Detection = tuple[str, Box, float]


def truth_of(regions: Sequence[tuple[int, Box]]) -> np.ndarray:
    """Instance ids on road; boxes are top, left, bottom, right."""
    ids = np.full(SIZE, ROAD, dtype=np.int32)
    for instance, (top, left, bottom, right) in regions:
        ids[top:bottom, left:right] = instance
    return ids


def found_as(detections: Sequence[Detection], image_id: int = 1) -> ImageInstances:
    masks = []
    for _, (top, left, bottom, right), _ in detections:
        mask = np.zeros(SIZE, dtype=np.uint8, order="F")
        mask[top:bottom, left:right] = 1
        masks.append({"size": list(SIZE), "counts": rle_masks.encode(mask)["counts"].decode()})
    return ImageInstances(
        image_id=image_id,
        size=SIZE,
        boxes=np.zeros((len(masks), 4)),
        classes=np.array([CITYSCAPES_CLASSES.index(name) for name, _, _ in detections], dtype=np.int64),
        masks=masks,
        scores=np.array([score for _, _, score in detections], dtype=np.float64),
    )


def truth_as(ids: np.ndarray | None, image_id: int = 1) -> ImageInstances:
    """Ground truth by its ids alone, which is all that the metric reads."""
    none = np.zeros(0, dtype=np.int64)
    return ImageInstances(image_id, SIZE, np.zeros((0, 4)), none, [], instance_ids=ids)


def scores_of(images: Sequence[tuple[Sequence[Detection], np.ndarray]]) -> dict[str, float]:
    metric = CityscapesMetric(MetricSettings(CITYSCAPES_CLASSES))
    for image_id, (detections, ids) in enumerate(images):
        metric.update(found_as(detections, image_id), truth_as(ids, image_id))
    return metric.compute()


def per_class(scores: dict[str, float]) -> list[float]:
    return [scores[f"cityscapes_ap/{name}"] for name in CITYSCAPES_CLASSES]


A, B, ELSEWHERE = (10, 10, 40, 40), (50, 60, 90, 100), (0, 110, 30, 150)


def test_by_hand() -> None:
    truth = truth_of([(26000, A), (26001, B), (24000, ELSEWHERE)])
    found = [("car", A, 0.9), ("car", (0, 60, 30, 100), 0.8), ("car", B, 0.7)]
    scores = scores_of([(found, truth)])
    car, person = scores["cityscapes_ap/car"], scores["cityscapes_ap/person"]
    # The curve is not interpolated; between its points (1/2, 1), (1/2, 1/2), (1, 2/3) the script integrates with
    # the precision of each point over half the recall between its neighbours.
    assert car == pytest.approx(100 * (1 * 0.25 + 0.5 * 0.25 + 2 / 3 * 0.25 + 1.0 * 0.25), abs=1e-9)
    assert person == 0.0
    assert scores["cityscapes_ap"] == pytest.approx(car / 2)
    assert sum(math.isnan(value) for value in per_class(scores)) == 6


def test_ground_truth_is_100() -> None:
    truth = truth_of([(26000, A), (26001, B), (24000, ELSEWHERE)])
    scores = scores_of([([("car", A, 0.2), ("car", B, 0.9), ("person", ELSEWHERE, 0.5)], truth)])
    assert scores["cityscapes_ap"] == scores["cityscapes_ap50"] == 100.0


@pytest.mark.parametrize("what", [VOID, CAR, 26005])
def test_void_groups_and_small_objects_are_not_held_against_the_model(what: int) -> None:
    where = (60, 0, 69, 11)  # 99 pixels
    truth = truth_of([(26000, A), (what, where)])
    assert scores_of([([("car", A, 0.5), ("car", where, 0.9)], truth)])["cityscapes_ap"] == 100.0
    on_road = (60, 30, 69, 41)
    assert scores_of([([("car", A, 0.5), ("car", on_road, 0.9)], truth)])["cityscapes_ap"] < 100.0


def test_an_object_of_100_pixels_counts() -> None:
    where = (60, 0, 70, 10)
    truth = truth_of([(26000, A), (26005, where)])
    assert scores_of([([("car", A, 0.5)], truth)])["cityscapes_ap"] == pytest.approx(50.0)


def test_a_group_of_another_class_excuses_nothing() -> None:
    truth = truth_of([(26000, A), (PERSON, B)])
    assert scores_of([([("car", A, 0.5), ("car", B, 0.9)], truth)])["cityscapes_ap"] < 100.0


def test_only_excused_detections_are_nothing_found() -> None:
    """The script itself fails here."""
    truth = truth_of([(26000, A), (CAR, B)])
    assert scores_of([([("car", B, 0.9)], truth)])["cityscapes_ap"] == 0.0


def test_nothing_there_is_nan() -> None:
    for images in ([], [([], truth_of([]))], [([("car", A, 0.9)], truth_of([(CAR, B)]))]):
        scores = scores_of(images)
        assert math.isnan(scores["cityscapes_ap"])
        assert math.isnan(scores["cityscapes_ap50"])
    assert scores_of([([], truth_of([(26000, A)]))])["cityscapes_ap"] == 0.0


def test_names_in_another_order() -> None:
    metric = CityscapesMetric(MetricSettings(("car", "person")))
    found = found_as([("car", A, 0.9)])
    metric.update(replace(found, classes=np.array([0])), truth_as(truth_of([(26000, A)])))
    scores = metric.compute()
    assert scores["cityscapes_ap/car"] == 100.0
    assert math.isnan(scores["cityscapes_ap/person"])


# The script as it is, on files, as the reference


@pytest.fixture(scope="module")
def with_old_numpy() -> Iterator[None]:
    """The script asks for a function that numpy 2.4 no longer has, and cannot write numpy 2's counts as JSON."""
    patch = pytest.MonkeyPatch()
    patch.setattr(np, "in1d", lambda values, test: np.isin(values, test).ravel(), raising=False)
    patch.setattr(script, "writeDict2JSON", lambda content, path: None)
    yield
    patch.undo()


def scores_of_script(images: Sequence[tuple[Sequence[Detection], np.ndarray]], folder: Path) -> dict[str, Any]:
    predictions, truths = [], []
    for number, (detections, ids) in enumerate(images):
        truths.append(str(folder / f"town_{number:06}_000000_gtFine_instanceIds.png"))
        Image.fromarray(ids.astype(np.uint16)).save(truths[-1])
        lines = []
        for index, (name, (top, left, bottom, right), score) in enumerate(detections):
            mask = np.zeros(SIZE, dtype=np.uint8)
            mask[top:bottom, left:right] = 255
            Image.fromarray(mask).save(folder / f"{number}_{index}.png")
            lines.append(f"{number}_{index}.png {script.name2label[name].id} {score!r}\n")
        predictions.append(str(folder / f"{number}.txt"))
        Path(predictions[-1]).write_text("".join(lines))
    settings = script.CArgs()
    vars(settings).update(vars(script.args))
    settings.predictionPath, settings.gtInstancesFile = str(folder), str(folder / "gtInstances.json")
    settings.quiet, settings.JSONOutput = True, False
    return script.evaluateImgLists(predictions, truths, settings)["averages"]


def random_box(rng: np.random.Generator) -> Box:
    top, left = int(rng.integers(0, 90)), int(rng.integers(0, 150))
    return top, left, min(SIZE[0], top + int(rng.integers(1, 50))), min(SIZE[1], left + int(rng.integers(1, 50)))


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3))
def test_random_scenes_score_as_by_the_script(
    seed: int, count: int, with_old_numpy: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        regions = [(int(rng.choice([VOID, CAR, PERSON, 29001])), random_box(rng)) for _ in range(2)]
        regions += [(int(rng.choice([24, 26])) * 1000 + n, random_box(rng)) for n in range(5)]
        found = [("car", random_box(rng), 0.3) for _ in range(rng.integers(0, 2))]
        for instance, (top, left, bottom, right) in regions:
            name = "person" if rng.random() < 0.4 else "car"
            if instance in (CAR, PERSON) or instance > 1000:
                name = {24: "person", 26: "car"}.get(instance // 1000 or instance, name)
            for _ in range(rng.integers(0, 3)):
                moved = (top, left + int(rng.integers(0, 5)), bottom, right)
                found.append((name, moved, round(float(rng.random()), 1)))
        images.append((found, truth_of(regions)))
    try:
        expected = scores_of_script(images, tmp_path_factory.mktemp("cityscapes"))
    except IndexError:
        return  # see test_only_excused_detections_are_nothing_found
    scores = scores_of(images)
    np.testing.assert_allclose(scores["cityscapes_ap"], 100 * expected["allAp"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores["cityscapes_ap50"], 100 * expected["allAp50%"], rtol=0, atol=1e-9)
    for name, value in zip(CITYSCAPES_CLASSES, per_class(scores), strict=True):
        np.testing.assert_allclose(value, 100 * expected["classes"][name]["ap"], rtol=0, atol=1e-9)


def test_it_is_silent_and_leaves_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(vars(script.args))
    scores_of([([("car", A, 0.9)], truth_of([(26000, A)]))])
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert vars(script.args) == before


def test_names_of_the_numbers() -> None:
    scores = scores_of([([("car", A, 0.9)], truth_of([(26000, A)]))])
    assert scores["cityscapes_ap"] == scores["cityscapes_ap50"] == scores["cityscapes_ap/car"] == 100.0
    assert math.isnan(scores["cityscapes_ap50/bus"])
    assert len(scores) == 2 + 2 * 8


def test_what_does_not_belong_together_is_refused() -> None:
    metric = CityscapesMetric(MetricSettings(CITYSCAPES_CLASSES))
    found, ids = found_as([("car", A, 0.9)]), truth_of([(26000, A)])
    with pytest.raises(ValueError, match=r"image 1: instance_ids must have the predictions' size \(100, 160\)"):
        metric.update(found, truth_as(ids[:50]))
    with pytest.raises(
        ValueError, match="image 1: 255 is not a Cityscapes instance id; the ground truth must be an instanceIds image"
    ):
        metric.update(found, truth_as(truth_of([(255, A)])))
    with pytest.raises(ValueError, match="image 1: instance_ids must be integers from 0, got float64"):
        metric.update(found, truth_as(ids.astype(np.float64)))
    with pytest.raises(ValueError, match="image 1: the ground truth needs instance_ids, got None"):
        metric.update(found, truth_as(None))
    with pytest.raises(ValueError, match="predictions need scores"):
        metric.update(replace(found, scores=None), truth_as(ids))
    with pytest.raises(ValueError, match="predicted classes must be 0 to 7, got 8"):
        metric.update(replace(found, classes=np.array([8])), truth_as(ids))
    assert len(metric) == 0
    metric.update(found, truth_as(ids))
    with pytest.raises(ValueError, match="image 1 was added before"):
        metric.update(found, truth_as(ids))
    with pytest.raises(ValueError, match="class_names must be distinct names out of"):
        CityscapesMetric(MetricSettings(("car", "tree")))
    for names in (("car", "car"), ()):
        with pytest.raises(ValueError, match="class_names must be distinct names, at least one"):
            CityscapesMetric(MetricSettings(names))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cityscapesscripts.evaluation", None)
    with pytest.raises(ImportError, match=r"pip install 'pointrend\[train\]'"):
        CityscapesMetric(MetricSettings(CITYSCAPES_CLASSES))
