"""Objects found in several passes, beside a second implementation that goes pass by pass and box by box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import ops

from pointrend.core import Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError, PointRendWarning
from pointrend.inputs import network_input
from pointrend.models import Detection, InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.models.detector import Detections
from pointrend.predict import PredictOptions, Slide, TestAugmentation
from pointrend.spec import InstanceSpec, InstanceTest
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

SIZE = (70, 110)


def make_model(**test: object) -> Model:
    torch.manual_seed(0)
    spec = InstanceSpec(
        name="small",
        num_logits=2,
        architecture=InstanceArchitecture(
            backbone="tf_efficientnet_lite0",
            fpn_channels=8,
            anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
            box_hidden=16,
            mask=MaskArchitecture(channels=8, hidden=16, point=PointArchitecture(hidden=8)),
        ),
        classes=(ClassInfo("one", (255, 0, 0)), ClassInfo("two", (0, 255, 0))),
        test=InstanceTest.model_validate(
            {
                "shortest": 64,
                "longest": 256,
                "detection": Detection(score_threshold=0.0, max_detections=8),
                "subdivision": Subdivision(784, 1, start=28),
            }
            | test
        ),
    )
    return Model(network_of(spec), spec).eval()


@pytest.fixture(scope="module")
def model() -> Model:
    return make_model()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@torch.inference_mode()
def naive(model: Model, pixels: np.ndarray, scales: tuple[float, ...]) -> tuple[Detections, Tensor]:
    """Detections in pixels of the image and the mean probabilities (R, M, M) of their masks; always mirrored too."""
    network, test = model.scoring_predictor().network, model.spec.test
    height, width = pixels.shape[:2]
    candidates: list[tuple[float, int, list[float]]] = []
    outputs = []
    for scale in scales:
        changes = {"shortest": int(test.shortest * scale + 0.5), "longest": int(test.longest * scale + 0.5)}
        for mirrored in (False, True):
            seen = np.fliplr(pixels).copy() if mirrored else pixels
            images, frame = network_input(seen, input=model.spec.input, test=test.model_copy(update=changes))
            output = network(images, [frame.valid], test.detection)
            outputs.append((output, frame, mirrored))
            (found,) = output.detections
            for box, score, label in zip(
                found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
            ):
                x0, x1 = (x * width / frame.valid[1] for x in (box[0], box[2]))
                y0, y1 = (y * height / frame.valid[0] for y in (box[1], box[3]))
                candidates.append((score, label, [width - x1, y0, width - x0, y1] if mirrored else [x0, y0, x1, y1]))
    kept: list[tuple[float, int, list[float]]] = []
    for candidate in sorted(candidates, key=lambda c: -c[0]):
        rivals = [k[2] for k in kept if k[1] == candidate[1]]
        overlaps = ops.box_iou(torch.tensor([candidate[2]]), torch.tensor(rivals)) if rivals else torch.zeros(1)
        if float(overlaps.max()) <= test.detection.nms:
            kept.append(candidate)
    kept = kept[: test.detection.max_detections]
    classes = torch.tensor([k[1] for k in kept])
    total = torch.zeros(1)
    for output, frame, mirrored in outputs:
        boxes = torch.tensor([[width - b[2], b[1], width - b[0], b[3]] if mirrored else b for _, _, b in kept])
        boxes = boxes * torch.tensor([frame.valid[1] / width, frame.valid[0] / height] * 2)
        of_pass = output._replace(detections=(Detections(boxes, torch.ones(len(kept)), classes),))
        masks = network.render(of_pass, test.subdivision)[-1][:, 0].sigmoid()
        total = total + (masks.flip(2) if mirrored else masks)
    merged = Detections(torch.tensor([k[2] for k in kept]), torch.tensor([k[0] for k in kept]), classes)
    return merged, total / len(outputs)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.75)])
def test_objects_are_those_of_the_second_implementation(model: Model, scales: tuple[float, ...]) -> None:
    pixels = picture(*SIZE)
    options = PredictOptions(augmentation=TestAugmentation(scales, flip=True))
    found = model.scoring_predictor(options).compare(pixels)["56x56"]
    expected, masks = naive(model, pixels, scales)
    assert len(found) == 8
    assert np.allclose(found.boxes, expected.boxes.numpy(), atol=1e-3)
    assert np.allclose(found.scores, expected.scores.numpy(), atol=1e-6)
    assert np.array_equal(found.labels, expected.classes.numpy())
    assert np.allclose(found.masks.probabilities, masks.numpy(), atol=1e-4)


def test_one_plain_pass_is_the_ordinary_prediction(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(*SIZE)
    plain = model.scoring_predictor().compare(pixels)
    monkeypatch.setattr(PredictOptions, "single", False)
    fused = model.scoring_predictor().compare(pixels)
    assert list(fused) == list(plain)
    for stage, result in plain.items():
        assert np.allclose(fused[stage].boxes, result.boxes, atol=1e-4)
        assert np.array_equal(fused[stage].labels, result.labels)
        assert np.allclose(fused[stage].masks.probabilities, result.masks.probabilities, atol=1e-4)


def test_a_symmetric_image_has_symmetric_objects(model: Model) -> None:
    half = picture(64, 48)
    pixels = np.concatenate((half, half[:, ::-1]), axis=1)
    found = model.predict(pixels, flip=True, score_threshold=0.0)
    mirrored = model.predict(np.fliplr(pixels).copy(), flip=True, score_threshold=0.0)
    boxes = mirrored.boxes[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1]) + np.array([96, 0, 96, 0])
    iou = ops.box_iou(torch.from_numpy(found.boxes), torch.from_numpy(boxes.astype(np.float32)))
    assert float(iou.max(dim=1).values.min()) > 0.99


def test_masks_lie_in_their_boxes_where_widths_are_odd(model: Model) -> None:
    """Sizes that scales do not divide: boxes stay inside of the image."""
    found = model.predict(picture(33, 97), scales=(0.7, 1.3), flip=True, score_threshold=0.0)
    assert found.ids.shape == (33, 97)
    assert (found.boxes >= -1e-3).all()
    assert (found.boxes <= np.array([97, 33, 97, 33]) + 1e-3).all()


def test_large_images_are_augmented_tile_by_tile() -> None:
    tiled = make_model(scale=1.0, longest=80)
    with pytest.warns(PointRendWarning, match="predicted in 2 tiles"):
        found = tiled.predict(picture(64, 140), scales=(0.5, 1.0), flip=True, score_threshold=0.0)
    assert found.ids.shape == (64, 140)
    assert len(found)


def test_nothing_found_is_nothing(model: Model) -> None:
    found = model.predict(picture(64, 64), scales=(0.5, 1), flip=True, score_threshold=0.999)
    assert len(found) == 0
    assert not found.ids.any()


def test_windows_are_for_label_maps(model: Model) -> None:
    options: dict[str, Any] = {"slide": Slide((64, 64), (64, 64))}
    with pytest.raises(PointRendError, match="slide is for semantic models, small finds instances"):
        model.predict(picture(64, 64), **options)
