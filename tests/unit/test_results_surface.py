"""What results share, and how they are handed to other packages."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.results import InstanceResult, LazyMasks, Result, SemanticResult

mpl.use("Agg")
SIZE = (40, 60)
CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("cat", (250, 10, 20)), ClassInfo("dog", (9, 200, 7)))
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def semantic() -> SemanticResult:
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 40:] = 2
    return SemanticResult(labels=labels, classes=CLASSES, image=IMAGE)


def instances() -> InstanceResult:
    boxes = np.array([[5, 5, 25, 25], [30, 10, 50, 30], [0, 0, 10, 8]], np.float32)
    return InstanceResult(
        boxes=boxes,
        scores=np.array([0.9, 0.8, 0.6], np.float32),
        labels=np.array([1, 2, 1]),
        masks=LazyMasks(np.ones((3, 28, 28), np.float32), boxes, SIZE),
        classes=CLASSES,
        image=IMAGE,
    )


def test_segments_of_a_label_map() -> None:
    result = semantic()
    assert len(result) == 2
    first, second = result
    assert (first.index, first.name, first.pixels, first.ratio) == (0, "background", 1600, 2 / 3)
    assert (second.index, second.name, second.pixels) == (2, "dog", 800)
    assert np.array_equal(second.mask, result.labels == 2)
    assert result[-1].name == "dog"
    with pytest.raises(IndexError):
        result[2]


def test_objects_of_a_result() -> None:
    result = instances()
    names = [one.class_name for one in result]
    assert names == ["cat", "dog", "cat"]
    one = result[1]
    assert (one.label, one.score, one.box.tolist()) == (2, pytest.approx(0.8), [30, 10, 50, 30])
    assert np.array_equal(one.mask, result.masks[1])
    for some in (result[result.labels == 1], result[np.array([0, 2])], result[::2]):
        assert isinstance(some, InstanceResult)
        assert some.scores.tolist() == pytest.approx([0.9, 0.6])
        assert np.array_equal(some.masks[1], result.masks[2])
        assert some.boxes.tolist() == result.boxes[[0, 2]].tolist()
    with pytest.raises(IndexError):
        result[3]


@pytest.mark.parametrize("result", [semantic(), instances()], ids=["semantic", "instance"])
def test_pictures(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    overlay = np.asarray(result.overlay())
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), overlay)
    figure, (left, right) = pyplot.subplots(1, 2)
    assert result.plot(right) is right
    assert np.array_equal(right.images[0].get_array(), overlay)
    assert not left.images
    pyplot.sca(left)
    assert result.plot() is left
    pyplot.close(figure)
    opened: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: opened.append(picture))
    result.show()
    assert np.array_equal(np.asarray(opened[0]), overlay)


def test_label_maps_are_what_results_are_compared_by() -> None:
    assert np.array_equal(semantic().label_map(), semantic().labels)
    assert np.array_equal(instances().label_map(), instances().ids > 0)


def test_supervision_sees_the_same_objects() -> None:
    sv = pytest.importorskip("supervision")
    result = instances()
    found = result.to_supervision()
    assert isinstance(found, sv.Detections)
    assert len(found) == 3
    assert np.array_equal(found.xyxy, result.boxes)
    assert np.array_equal(found.confidence, result.scores)
    assert found.class_id.tolist() == [1, 2, 1]
    assert found.data["class_name"].tolist() == ["cat", "dog", "cat"]
    assert found.area.tolist() == [result.masks.area(i) for i in range(3)]
    annotated = sv.MaskAnnotator().annotate(IMAGE.copy(), found)
    changed = (annotated != IMAGE).any(axis=2)
    assert not (changed & (result.ids == 0)).any()
    assert len(result[np.zeros(3, bool)].to_supervision()) == 0


def test_supervision_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        instances().to_supervision()


def test_a_result_saves_what_its_suffixes_say(tmp_path: Path) -> None:
    for result in (semantic(), instances()):
        paths = result.save(tmp_path / type(result).__name__, stem="a")
        assert [path.name for path in paths] == [f"a{suffix}" for suffix in result.suffixes]
        assert len(result.files()) == len(result.suffixes)
