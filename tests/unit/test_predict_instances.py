"""Instances of images of any size, by a small network with random weights."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pointrend.core import Subdivision
from pointrend.data import find_samples
from pointrend.data.classes import ClassInfo, generate_colors
from pointrend.errors import PointRendWarning
from pointrend.evaluation import evaluate
from pointrend.models import Detection, InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.predict import InstancePredictor, PredictOptions
from pointrend.results import InstanceResult
from pointrend.spec import SHOWN_SCORE, InstanceSpec, InstanceTest
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of


def make_model(num_classes: int = 1, *, max_detections: int = 6, steps: int = 1, **test: object) -> Model:
    torch.manual_seed(0)
    names = [f"thing {i}" for i in range(num_classes)] if num_classes > 1 else ["object"]
    colors = generate_colors(min(num_classes, 24))
    spec = InstanceSpec(
        name="small",
        num_logits=num_classes,
        architecture=InstanceArchitecture(
            backbone="tf_efficientnet_lite0",
            fpn_channels=8,
            anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
            box_hidden=16,
            mask=MaskArchitecture(channels=8, hidden=16, point=PointArchitecture(hidden=8)),
        ),
        classes=tuple(ClassInfo(name, colors[i % len(colors)]) for i, name in enumerate(names)),
        test=InstanceTest.model_validate(
            {
                "shortest": 64,
                "longest": 128,
                "detection": Detection(score_threshold=0.0, max_detections=max_detections),
                "subdivision": Subdivision(784, steps, start=28),
            }
            | test
        ),
    )
    return Model(network_of(spec), spec).eval()


def predict(model: Model, image: object, **options: object) -> InstanceResult:
    """Everything that the network finds, of however low a score."""
    found = model.predict(image, **({"score_threshold": 0.0} | options))  # type: ignore[arg-type]
    assert isinstance(found, InstanceResult)
    return found


def predictor_of(model: Model, **options: int) -> InstancePredictor:
    found = model.predictor(PredictOptions(**options))
    assert isinstance(found, InstancePredictor)
    return found


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (33, 97), (97, 33), (1, 300), (200, 140)])
def test_results_have_the_size_of_the_image(model: Model, size: tuple[int, int]) -> None:
    found = predict(model, picture(*size))
    height, width = size
    assert found.ids.shape == size
    assert all(mask.shape == size for mask in found.masks)
    assert len(found) <= 6
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([width, height, width, height]) + 1e-3).all()


def test_stages_are_named_and_sized(model: Model) -> None:
    predictor = predictor_of(model, steps=3)
    assert predictor.stages == ("coarse", "28x28", "56x56", "112x112", "224x224")
    encoded = predictor.encode(picture(64, 64))
    assert [tuple(s.shape[1:]) for s in predictor.render(encoded)] == [(1, n, n) for n in (7, 28, 56, 112, 224)]


def test_scaled_input(model: Model) -> None:
    """A model for small things enlarges its input; `size` overrides the factor."""
    small = picture(40, 60)
    assert predictor_of(make_model(scale=2.0, longest=1000)).encode(small).frame.valid == (80, 120)
    assert predictor_of(make_model(scale=2.0, longest=100)).encode(small).frame.valid == (67, 100)
    assert predictor_of(make_model(scale=2.0), size=64).encode(small).frame.valid == (64, 96)


def test_one_call_for_both_tasks(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(50, 70)).save(path)
    one, two = model.predict(path, score_threshold=0), model.predict([path, picture(50, 70)], score_threshold=0)
    assert one.path == path
    assert len(two) == 2
    assert np.array_equal(one.ids, two[1].ids)


def test_fewer_by_score_and_number(model: Model) -> None:
    everything = predict(model, picture(64, 64))
    assert len(everything) == 6
    middle = float(everything.scores[2])
    better = predict(model, picture(64, 64), score_threshold=middle)
    assert np.array_equal(better.scores, everything.scores[everything.scores > middle])
    assert len(predict(model, picture(64, 64), max_detections=2)) == 2
    nothing = predict(model, picture(64, 64), score_threshold=0.999)
    assert len(nothing) == 0
    assert not nothing.ids.any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 31}, "size must be 32 to 8192"),
        ({"points": 0}, "points must be 1 to 100000000"),
        ({"steps": 7}, "steps must be 0 to 6"),
        ({"score_threshold": 1.0}, "score_threshold must be at least 0 and under 1"),
        ({"max_detections": 0}, "max_detections must be 1 to 65535"),
        ({"probabilities": True}, "probabilities is for semantic models, small finds instances"),
        ({"adaptive": True, "reference": True}, "choose one of adaptive and reference"),
    ],
)
def test_settings_that_are_none(model: Model, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.predict(picture(64, 64), **settings)  # type: ignore[arg-type]


def test_a_model_may_render_adaptively_by_default() -> None:
    image = picture(64, 64)
    plain, own = make_model(steps=3), make_model(steps=3, adaptive=True)
    whole, adaptive = plain.predict(image, score_threshold=0), plain.predict(image, score_threshold=0, adaptive=True)
    found = own.predict(image, score_threshold=0)
    assert len(found) > 0
    masks = [np.stack([found.masks[i] for i in range(len(found))]) for found in (whole, adaptive, found)]
    assert np.array_equal(masks[1], masks[2])
    probabilities = [result.masks.probabilities for result in (whole, adaptive, found)]
    assert np.array_equal(probabilities[1], probabilities[2])
    assert not np.array_equal(probabilities[0], probabilities[1])


def test_memory_does_not_depend_on_the_number_of_classes() -> None:
    """Rendering with LVIS's 1203 classes: all of them at 224 x 224 would be 240 MB an instance."""
    predictor = make_model(1203, max_detections=20, steps=3).scoring_predictor()
    assert isinstance(predictor, InstancePredictor)
    detected = predictor.encode(picture(64, 64))
    assert len(detected.output.detections[0].boxes) == 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stages = predictor.render(detected)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert tuple(stages[-1].shape) == (20, 1, 224, 224)
    assert grown < 1.5e9  # all classes of all instances: 4.8 GB


def test_evaluation_has_a_row_for_each_stage(model: Model, tmp_path: Path) -> None:
    ids = np.zeros((50, 60), np.uint16)
    ids[10:30, 10:30] = 4
    for folder, values in (("images", picture(50, 60)), ("labels", ids)):
        (tmp_path / folder).mkdir()
        for name in "ab":
            Image.fromarray(values).save(tmp_path / folder / f"{name}.png")
    samples = find_samples(tmp_path, task="instance")
    seen: list[tuple[int, int]] = []
    found = evaluate(model, samples, limit=1, progress=lambda done, total: seen.append((done, total)))
    assert list(found.rows) == ["coarse", "28x28", "56x56"]
    assert (found.num_images, found.max_detections, seen) == (1, 6, [(1, 1)])
    rows = found.to_dict()["rows"]
    boxes = [{k: v for k, v in rows[row].items() if k.startswith("box_")} for row in ("coarse", "56x56")]  # type: ignore[index]
    assert boxes[0] == boxes[1]
    assert boxes[0]
    with pytest.raises(ValueError, match="the model has 3 classes, the data 1"):
        evaluate(make_model(3), samples)


def test_the_boxes_of_wide_images_are_scaled_on_each_axis() -> None:
    """The network's size is rounded on each axis of its own: a box that fills the input fills the image."""
    model = make_model(longest=1000)
    predictor = predictor_of(model)
    encoded = predictor.encode(picture(33, 97))  # seen as 64 x 188, by factors of 1.939 and 1.938
    (found,) = encoded.output.detections
    whole = torch.tensor([[0.0, 0.0, encoded.frame.valid[1], encoded.frame.valid[0]]])
    output = encoded.output._replace(
        detections=(found._replace(boxes=whole, scores=found.scores[:1], classes=found.classes[:1]),)
    )
    whole_image = replace(encoded, output=output)
    result = predictor.result(whole_image, predictor.render(whole_image)[-1], picture(33, 97))
    assert np.allclose(result.boxes, [[0, 0, 97, 33]], atol=1e-4)


def test_library_and_command_show_the_same_objects() -> None:
    """Both leave out what is scored 0.5 or lower; metrics get everything that the model's own threshold lets pass."""
    model = make_model()
    assert model.predictor().test.detection.score_threshold == SHOWN_SCORE == 0.5
    assert model.scoring_predictor().test.detection.score_threshold == 0.0


def test_a_limit_that_cuts_is_said_and_can_be_raised(model: Model) -> None:
    with pytest.warns(PointRendWarning, match="more than 6 objects were found, and the best 6 kept"):
        found = predict(model, picture(64, 64))
    assert found.notes[0].startswith("more than 6 objects")
    more = predict(model, picture(64, 64), max_detections=2000)
    assert not any(note.startswith("more than") for note in more.notes)
    predictor = predictor_of(model, max_detections=2000)
    assert predictor.test.detection.max_proposals == 4000  # they do not limit it silently
    assert predictor.test.detection.proposals_per_level == 4000


def test_count_table_ids_and_json_agree(model: Model) -> None:
    found = predict(model, picture(90, 120), max_detections=500)
    numbers = np.unique(found.ids)
    assert len(numbers[numbers > 0]) == len(found) == len(found.table())
    summary = found.summary()
    assert len(summary["instances"]) == len(found)  # type: ignore[arg-type]
    assert sum(entry["count"] for entry in summary["classes"]) == len(found)  # type: ignore[attr-defined]


def test_images_beyond_the_scale_are_predicted_in_tiles() -> None:
    model = make_model(max_detections=50, scale=1.0, longest=96)
    image = picture(80, 200)
    found = predict(model, image)
    assert any(note.startswith("predicted in 3 tiles, because the image is larger") for note in found.notes)
    assert found.ids.shape == (80, 200)
    compared = predictor_of(model).compare(image)
    assert {tuple(result.scores) for result in compared.values()} == {tuple(compared["coarse"].scores)}
    assert compared["coarse"].image.shape == (80, 200, 3)
    assert not any("tiles" in note for note in predict(model, picture(80, 96)).notes)


def test_a_given_maximum_is_of_the_image_and_the_models_own_of_a_tile() -> None:
    model = make_model(max_detections=20, scale=1.0, longest=96)
    image = picture(80, 200)
    whole = predict(model, image)
    assert len(whole) > 20
    few = predict(model, image, max_detections=7)
    assert len(few) <= 7
    assert few.scores[0] == whole.scores[0]
    assert any(note.startswith("more than 7 objects were found, and the best 7 kept") for note in few.notes)


def test_proposals_grow_with_the_maximum_up_to_their_own(model: Model) -> None:
    assert predictor_of(model, max_detections=65535).test.detection.max_proposals == 20_000
    assert predictor_of(model, max_detections=5).test.detection.max_proposals == 1000
