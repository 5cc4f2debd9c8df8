"""Instance PointRend, joined."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pointrend.core import MASK_SUBDIVISION
from pointrend.models import Detection, InstanceArchitecture, InstancePointRend, instance_pointrend

SMALL = {
    "backbone": "tf_efficientnet_lite0",
    "fpn_channels": 8,
    "anchor_sizes": ((8,), (16,), (32,), (48,), (64,)),
    "box_hidden": 16,
    "mask": {"channels": 8, "hidden": 16, "point": {"hidden": 8}},
}


def small(num_classes: int = 3, **settings: object) -> InstancePointRend:
    torch.manual_seed(0)
    return instance_pointrend(num_classes, InstanceArchitecture(**(SMALL | settings))).eval()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_published_shapes() -> None:
    with torch.device("meta"):
        network = instance_pointrend(80, InstanceArchitecture(backbone="resnet50"))
    shapes = {name: tuple(p.shape) for name, p in network.state_dict().items()}
    assert shapes["rpn.head.cls_logits.weight"] == (3, 256, 1, 1)
    assert shapes["rpn.head.bbox_pred.weight"] == (12, 256, 1, 1)
    assert shapes["box_head.fc6.weight"] == (1024, 256 * 49)
    assert shapes["box_predictor.cls_score.weight"] == (81, 1024)
    assert shapes["box_predictor.bbox_pred.weight"] == (4 * 81, 1024)
    assert shapes["mask_head.coarse_head.classifier.weight"] == (80 * 49, 1024)
    assert shapes["mask_head.point_head.layers.0.weight"] == (256, 256 + 80)
    assert shapes["mask_head.point_head.classifier.weight"] == (80, 256 + 80)
    assert network.box_coder.weights == (10, 10, 5, 5)


@torch.no_grad()
def test_strides_and_sizes_of_the_dense_part() -> None:
    network = small(fine_strides=(4, 2))
    features = network.features(images(2, 3, 64, 96), [(64, 96), (50, 70)])
    assert [tuple(p.shape[2:]) for p in features.pyramid] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    assert features.fine[0] is features.pyramid[0]
    assert tuple(features.fine[1].shape[2:]) == (32, 48)
    assert features.size == (64, 96)
    assert features.valid == ((64, 96), (50, 70))
    assert network.features(images(2, 3, 64, 96)).valid == ((64, 96), (64, 96))


@torch.no_grad()
def test_detections_and_their_masks() -> None:
    network = small()
    valid = [(64, 96), (50, 70)]
    output = network(images(2, 3, 64, 96), valid, detection=Detection(score_threshold=0.0, max_detections=7))
    assert [len(d.boxes) for d in output.detections] == [7, 7]
    for found, (height, width) in zip(output.detections, valid, strict=True):
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert (found.scores.diff() <= 0).all()
        assert found.classes.min() >= 0
        assert found.classes.max() < 3
    stages = network.render(output, replace(MASK_SUBDIVISION, num_points=100, steps=1))
    assert [tuple(stage.shape) for stage in stages] == [(14, 1, side, side) for side in (7, 28, 56)]


@torch.no_grad()
def test_an_image_is_found_alone_as_in_a_batch() -> None:
    network, batch = small(), images(3, 3, 64, 96)
    together = network(batch, detection=Detection(score_threshold=0.0, max_detections=5))
    masks = network.render(together, replace(MASK_SUBDIVISION, steps=0))[-1]
    for index in range(3):
        alone = network(batch[index : index + 1], detection=Detection(score_threshold=0.0, max_detections=5))
        torch.testing.assert_close(alone.detections[0].boxes, together.detections[index].boxes, atol=1e-3, rtol=1e-3)
        mask = network.render(alone, replace(MASK_SUBDIVISION, steps=0))[-1]
        torch.testing.assert_close(mask, masks[5 * index : 5 * index + 5], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_nothing_found_in_any_or_in_one_image() -> None:
    network = small()
    output = network(images(2, 3, 64, 96), detection=Detection(score_threshold=0.999))
    assert [len(d.boxes) for d in output.detections] == [0, 0]
    assert [tuple(stage.shape) for stage in network.render(output, replace(MASK_SUBDIVISION, steps=1))] == [
        (0, 1, s, s) for s in (7, 28, 56)
    ]
    full = network(images(2, 3, 64, 96), detection=Detection(score_threshold=0.0, max_detections=4))
    mixed = full._replace(detections=(output.detections[0], full.detections[1]))
    masks = network.render(mixed, replace(MASK_SUBDIVISION, steps=0))[-1]
    torch.testing.assert_close(
        masks, network.render(full, replace(MASK_SUBDIVISION, steps=0))[-1][4:], atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_no_proposals_are_no_detections() -> None:
    network = small()
    network.rpn.head.bbox_pred.bias.fill_(1e6)  # all boxes lie outside of the image
    output = network(images(1, 3, 64, 96))
    assert len(output.detections[0].boxes) == 0
    assert network.decoded(network.boxes(output.features, [torch.zeros(0, 4)]), [torch.zeros(0, 4)]).shape == (0, 4, 4)


@torch.no_grad()
def test_decoded_boxes_written_out() -> None:
    network = small(num_classes=1)
    boxes = [torch.tensor([[10.0, 20, 30, 60]]), torch.zeros(0, 4), torch.tensor([[0.0, 0, 8, 8]])]
    features = network.features(images(3, 3, 64, 96))
    output = network.boxes(features, boxes)
    deltas = torch.tensor([[0.0] * 4 + [1.0, -2, 1, -1], [0.0] * 4 + [0.0, 0, 50, 0]])
    found = network.decoded(output._replace(deltas=deltas), boxes)
    assert found.shape == (2, 2, 4)
    torch.testing.assert_close(found[0, 0], torch.tensor([10.0, 20, 30, 60]))
    x, y = 20 + 1 / 10 * 20, 40 - 2 / 10 * 40
    w, h = 20 * math.exp(1 / 5), 40 * math.exp(-1 / 5)
    torch.testing.assert_close(found[0, 1], torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
    assert float(found[1, 1, 2] - found[1, 1, 0]) == pytest.approx(8 * 1000 / 16, rel=1e-4)  # never larger at once


@torch.no_grad()
def test_class_agnostic_has_one_mask() -> None:
    network = small(mask={"channels": 8, "hidden": 16, "class_agnostic": True, "point": {"hidden": 8}})
    assert network.mask_head.coarse_head.num_classes == network.mask_head.point_head.classifier.out_features == 1
    output = network(images(1, 3, 64, 96), detection=Detection(score_threshold=0.0, max_detections=30))
    masks = network.render(output, replace(MASK_SUBDIVISION, steps=0))[-1]
    assert masks.shape == (30, 1, 28, 28)
    others = output.detections[0]._replace(classes=torch.arange(30) % 3)
    assert torch.equal(
        network.render(output._replace(detections=(others,)), replace(MASK_SUBDIVISION, steps=0))[-1], masks
    )


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 47), (65, 100), (1, 1)])
def test_sizes_that_no_stride_divides(size: tuple[int, int]) -> None:
    network = small()
    output = network(images(1, 3, *size), detection=Detection(score_threshold=0.0, max_detections=3))
    for stage in network.render(output, replace(MASK_SUBDIVISION, steps=1)):
        assert stage.isfinite().all()
    assert output.features.size == size


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ({"fine_strides": (2,)}, "fine_strides must be"),
        ({"fine_strides": (4, 8)}, r"fine_strides must be .*got \(4, 8\)"),
        ({"anchor_sizes": ((8,), (16,), (32, 33), (64,), (128,))}, "as many sizes for each of the five levels"),
        ({"anchor_sizes": ((8,), (16,))}, "at least 5 items.*not 2"),
        ({"backbone": "resnet5O"}, "no backbone of this name"),
    ],
)
def test_wrong_numbers_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        small(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
