"""Instances of images of any size, by a small network with random weights."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointrend import Predictor
from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.data.instance_layouts import find_instance_samples
from pointrend.evaluate import evaluate_instances
from pointrend.predict import InstancePredictor
from pointrend.zoo.modelfile import InstanceModel, build
from pointrend.zoo.spec import InstanceArchitecture, InstanceSpec, InstanceTestSpec


def make_model(num_classes: int = 1, **test: object) -> InstanceModel:
    torch.manual_seed(0)
    names = [f"thing {i}" for i in range(num_classes)] if num_classes > 1 else ["object"]
    colors = generate_colors(min(num_classes, 24))
    spec = InstanceSpec(
        name="small",
        architecture=InstanceArchitecture(
            backbone="tf_efficientnet_lite0",
            num_classes=num_classes,
            fpn_channels=8,
            anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
            box_hidden=16,
            coarse_channels=8,
            coarse_hidden=16,
            point_hidden=8,
        ),
        classes=tuple(ClassInfo(name, colors[i % len(colors)]) for i, name in enumerate(names)),
        test=InstanceTestSpec.model_validate(
            {"shortest": 64, "longest": 128, "score_threshold": 0.0, "max_detections": 6, "steps": 1} | test
        ),
    )
    return InstanceModel(network=build(spec).eval(), spec=spec)


@pytest.fixture(scope="module")
def model() -> InstanceModel:
    return make_model()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 97), (97, 33), (1, 300), (200, 140)])
def test_results_have_the_size_of_the_image(model: InstanceModel, size: tuple[int, int]) -> None:
    found = InstancePredictor(model)(picture(*size))
    height, width = size
    assert found.ids.shape == size
    assert all(mask.shape == size for mask in found.masks)
    assert len(found) <= 6
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([width, height, width, height]) + 1e-3).all()


def test_stages_are_named_and_sized(model: InstanceModel) -> None:
    predictor = InstancePredictor(model, steps=3)
    assert predictor.stages == ("coarse", "28x28", "56x56", "112x112", "224x224")
    detected = predictor.detect(picture(64, 64))
    assert [tuple(s.shape[1:]) for s in predictor.render(detected)] == [(1, n, n) for n in (7, 28, 56, 112, 224)]


def test_scaled_input(model: InstanceModel) -> None:
    """A model for small things enlarges its input; `size` overrides the factor."""
    enlarged = InstancePredictor(make_model(scale=2.0, longest=1000))
    assert enlarged.detect(picture(40, 60)).valid == (80, 120)
    assert InstancePredictor(make_model(scale=2.0, longest=100)).detect(picture(40, 60)).valid == (67, 100)
    assert InstancePredictor(make_model(scale=2.0), size=64).detect(picture(40, 60)).valid == (64, 96)


def test_one_call_for_both_tasks(model: InstanceModel, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(50, 70)).save(path)
    predict = Predictor(model)
    one, two = predict(path), predict([path, picture(50, 70)])
    assert one.path == path
    assert len(two) == 2
    assert np.array_equal(one.ids, two[1].ids)  # type: ignore[union-attr]


def test_fewer_by_score_and_number(model: InstanceModel) -> None:
    everything = InstancePredictor(model)(picture(64, 64))
    assert len(everything) == 6
    middle = float(everything.scores[2])
    better = InstancePredictor(model, score_threshold=middle)(picture(64, 64))
    assert np.array_equal(better.scores, everything.scores[everything.scores > middle])
    assert len(InstancePredictor(model, max_detections=2)(picture(64, 64))) == 2
    nothing = InstancePredictor(model, score_threshold=0.999)(picture(64, 64))
    assert len(nothing) == 0
    assert not nothing.ids.any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 31}, "size must be at least 32"),
        ({"num_points": 0}, "num_points must be at least 1"),
        ({"steps": 7}, "steps must be 0 to 6"),
        ({"score_threshold": 1.0}, "score_threshold must be at least 0 and under 1"),
        ({"max_detections": 0}, "max_detections must be 1 to 65535"),
        ({"device": "nowhere"}, "nowhere"),
    ],
)
def test_settings_that_are_none(model: InstanceModel, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        InstancePredictor(model, **settings)  # type: ignore[arg-type]


def test_memory_does_not_depend_on_the_number_of_classes() -> None:
    """Rendering with LVIS's 1203 classes: all of them at 224 x 224 would be 240 MB an instance."""
    predictor = InstancePredictor(make_model(1203, max_detections=20, steps=3))
    detected = predictor.detect(picture(64, 64))
    assert len(detected.output.detections[0].boxes) == 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stages = predictor.render(detected)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert tuple(stages[-1].shape) == (20, 1, 224, 224)
    assert grown < 1.5e9  # all classes of all instances: 4.8 GB


def test_evaluation_has_a_row_for_each_stage(model: InstanceModel, tmp_path: Path) -> None:
    ids = np.zeros((50, 60), np.uint16)
    ids[10:30, 10:30] = 4
    for folder, values in (("images", picture(50, 60)), ("labels", ids)):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(values).save(tmp_path / folder / f"{name}.png")
    samples = find_instance_samples(tmp_path)
    seen: list[tuple[int, int]] = []
    found = evaluate_instances(
        InstancePredictor(model), samples, limit=1, progress=lambda done, total: seen.append((done, total))
    )
    assert list(found.rows) == ["coarse", "28x28", "56x56"]
    assert (found.num_images, found.max_detections, seen) == (1, 6, [(1, 1)])
    as_json = found.to_dict()
    assert as_json["rows"]["coarse"]["box"] == as_json["rows"]["56x56"]["box"]  # type: ignore[index]
    with pytest.raises(ValueError, match="the model has 3 classes, the data 1"):
        evaluate_instances(InstancePredictor(make_model(3)), samples)
