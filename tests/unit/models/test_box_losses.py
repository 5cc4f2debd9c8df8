"""The losses of proposals and boxes are detectron2's, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RPNHead

from pointrend.models.detector import Anchors, ProposalNetwork, RpnOutput, box_losses


def network(per_image: int) -> ProposalNetwork:
    """Two anchors of 16 pixels, as the one level of stride 16 has a grid of 1 x 2."""
    return ProposalNetwork(
        Anchors(sizes=((16,),), aspect_ratios=(1.0,), strides=(16,)),
        RPNHead(8, 1),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=per_image,
        positive_fraction=0.5,
        pre_nms_top_n={},
        post_nms_top_n={},
        nms_thresh=0.7,
    )


@pytest.mark.parametrize("per_image", [2, 10])
def test_losses_of_proposals_are_l1_by_the_number_of_anchors_asked_for(per_image: int) -> None:
    """Also where an image has fewer: two images with two anchors each, of which one has an object."""
    made = network(per_image)
    raw = RpnOutput([torch.tensor([[[[0.5, -1.0]]], [[[2.0, 0.0]]]])], [torch.full((2, 4, 1, 2), 0.25)])
    # Anchors are (-8, -8, 8, 8) and (8, -8, 24, 8); the object lies 2 pixels to the right of the first.
    targets = [{"boxes": torch.tensor([[-6.0, -8.0, 10.0, 8.0]])}, {"boxes": torch.zeros(0, 4)}]
    objectness, boxes = made.losses(raw, targets, [(16, 32), (16, 32)])
    count = 2 * per_image

    def negative(logit: float) -> float:
        return math.log(1 + math.exp(logit))

    expected = negative(-0.5) + negative(-1.0) + negative(2.0) + negative(0.0)
    assert objectness.item() == pytest.approx(expected / count, rel=1e-5)
    # Wanted are (2 / 16, 0, 0, 0), predicted 0.25 everywhere.
    assert boxes.item() == pytest.approx((0.125 + 3 * 0.25) / count, rel=1e-5)
    _, squared = made.losses(raw, targets, [(16, 32), (16, 32)], smooth_l1_beta=0.5)
    assert squared.item() == pytest.approx((0.125**2 + 3 * 0.25**2) / count, rel=1e-5)  # 0.5 d² / 0.5


def regions() -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Five regions of two images, of two classes and the background."""
    generator = torch.Generator().manual_seed(0)
    logits, deltas = torch.randn(5, 3, generator=generator), torch.randn(5, 12, generator=generator)
    wanted = torch.randn(5, 4, generator=generator)
    return logits, deltas, [torch.tensor([0, 2, 1]), torch.tensor([0, 2])], list(wanted.split((3, 2)))


def test_losses_of_boxes_are_l1_by_the_number_of_regions() -> None:
    logits, deltas, labels, wanted = regions()
    classes, boxes = box_losses(logits, deltas, labels, wanted)
    flat, goal = torch.cat(labels).tolist(), torch.cat(wanted)
    cross = -sum(logits.log_softmax(1)[i, label] for i, label in enumerate(flat)) / 5
    total = sum((deltas[i, 4 * c : 4 * c + 4] - goal[i]).abs().sum() for i, c in enumerate(flat) if c) / 5
    torch.testing.assert_close(classes, torch.as_tensor(cross))
    torch.testing.assert_close(boxes, torch.as_tensor(total))


def test_with_a_beta_of_a_ninth_they_are_torchvisions() -> None:
    logits, deltas, labels, wanted = regions()
    ours = box_losses(logits, deltas, labels, wanted, smooth_l1_beta=1 / 9)
    theirs = fastrcnn_loss(logits, deltas, labels, wanted)
    torch.testing.assert_close(ours, theirs)
    assert box_losses(logits, deltas, labels, wanted)[1] > theirs[1] * 1.01


def test_no_regions_and_no_objects_have_a_loss_of_zero_with_a_graph() -> None:
    for count in (0, 3):
        logits, deltas = torch.zeros(count, 3, requires_grad=True), torch.ones(count, 12, requires_grad=True)
        classes, boxes = box_losses(logits, deltas, [torch.zeros(count, dtype=torch.int64)], [torch.zeros(count, 4)])
        (classes + boxes).backward()
        assert boxes.item() == 0
        assert classes.item() == pytest.approx(math.log(3) if count else 0)
        assert deltas.grad is not None
        assert not deltas.grad.any()
