"""PointRend on torchvision's Mask R-CNN."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from hosts import ANCHORS, Pyramid, attached, pictures, run, small, targets
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    KeypointRCNN,
    MaskRCNN,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pointrend.core import Subdivision, regular_grid
from pointrend.models.attach import pasted
from pointrend.models.mask_head import PointRendMaskHead, sample_in_boxes

# what stays


@pytest.mark.parametrize(
    ("build", "canvas"),
    [
        (small, 96),
        (
            lambda: maskrcnn_resnet50_fpn(
                weights=None, weights_backbone=None, num_classes=3, min_size=64, box_score_thresh=0.0
            ),
            64,
        ),
        (
            lambda: maskrcnn_resnet50_fpn_v2(
                weights=None, weights_backbone=None, num_classes=3, min_size=64, box_score_thresh=0.0
            ),
            64,
        ),
    ],
    ids=["hand-built", "v1", "v2"],
)
def test_boxes_stay_exactly_what_they_were(build: Callable[[], MaskRCNN], canvas: int) -> None:
    torch.manual_seed(0)
    model = build().eval()
    model.roi_heads.detections_per_img = 5
    images = [torch.rand(3, canvas, canvas + 10), torch.rand(3, canvas + 20, canvas)]
    before = run(model, images)
    weights = {key: value.clone() for key, value in model.state_dict().items() if "mask" not in key}
    assert attached(model) is model
    after = run(model, images)
    assert sum(len(found["boxes"]) for found in before) > 0
    for image, old, new in zip(images, before, after, strict=True):
        for key in ("boxes", "labels", "scores"):
            assert torch.equal(old[key], new[key])
        assert set(old) == set(new)
        assert new["masks"].shape == old["masks"].shape == (len(old["boxes"]), 1, *image.shape[1:])
        assert new["masks"].dtype == old["masks"].dtype
        assert new["masks"].min() >= 0
        assert new["masks"].max() <= 1 + 1e-6
    kept = {key: value for key, value in model.state_dict().items() if "mask" not in key}
    assert kept.keys() == weights.keys()
    assert all(torch.equal(kept[key], weights[key]) for key in kept)


def test_parameters_of_an_optimiser_made_before_stay_the_models() -> None:
    model = small()
    before = {id(p) for name, p in model.named_parameters() if "mask" not in name}
    attached(model)
    assert before == {id(p) for name, p in model.named_parameters() if "mask" not in name}


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_statistics_stay(training: bool) -> None:
    model = small().train(training)
    model.backbone.norm.eval()
    before = model.backbone.norm.running_mean.clone()
    attached(model)
    assert {m.training for m in model.modules() if m is not model.backbone.norm} == {training}
    assert not model.backbone.norm.training
    assert torch.equal(model.backbone.norm.running_mean, before)


@torch.no_grad()
def test_settings_of_the_host_stay() -> None:
    model = small(
        min_size=64, box_nms_thresh=0.3, box_fg_iou_thresh=0.6, box_bg_iou_thresh=0.4, bbox_reg_weights=(1.0,) * 4
    )
    heads, transform = model.roi_heads, model.transform
    attached(model)
    new = model.roi_heads
    assert (new.nms_thresh, new.score_thresh, new.detections_per_img) == (0.3, 0.0, 12)
    assert new.proposal_matcher is heads.proposal_matcher
    assert new.fg_bg_sampler is heads.fg_bg_sampler
    assert new.box_coder is heads.box_coder
    for name in ("min_size", "max_size", "image_mean", "image_std", "size_divisible", "fixed_size"):
        assert getattr(model.transform, name) == getattr(transform, name)


def test_the_other_losses_stay() -> None:
    model = small()
    with_masks = attached(copy.deepcopy(model))
    model.train()
    with_masks.train()
    torch.manual_seed(3)
    old = model(pictures(), targets())
    torch.manual_seed(3)
    new = with_masks(pictures(), targets())
    assert set(old) - set(new) == {"loss_mask"}
    assert set(new) - set(old) == {"loss_mask_coarse", "loss_mask_points"}
    for key in set(old) & set(new):
        assert torch.equal(old[key], new[key]), key


def test_it_is_saved_loaded_copied_and_pickled() -> None:
    model = attached(small())
    images = pictures()
    expected = run(model, images)
    other = attached(small())
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for one, two in zip(expected, run(twin, images), strict=True):
            assert torch.equal(one["masks"], two["masks"])


# masks


class Oracle(PointRendMaskHead):
    """A mask is where the first channel of the map is above 0."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def render(self, fine, boxes, classes, size, subdivision):  # type: ignore[no-untyped-def]
        side = subdivision.start * 2**subdivision.steps
        grid = regular_grid((side, side), batch=sum(len(b) for b in boxes))
        read = sample_in_boxes(fine[0][:, :1], boxes, grid, size, padding="border")
        return [(read * 1000).transpose(1, 2).unflatten(2, (side, side))]


@pytest.mark.parametrize("min_size", [96, 150])
def test_masks_lie_where_the_image_shows_it(min_size: int) -> None:
    """On a batch that is padded, at the image's scale and at another."""
    images = [torch.zeros(3, 96, 128), torch.zeros(3, 104, 96)]
    images[0][:, :, :61] = 1
    images[1][:, 36:] = 1
    model = attached(small(min_size=min_size))
    model.roi_heads.mask_head = Oracle()
    for image, found in zip(images, run(model, images), strict=True):
        height, width = image.shape[1:]
        rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        edge = (columns.expand(height, -1) - 61).abs() if width == 128 else (rows[:, None] - 36).abs().expand(-1, width)
        checked = 0
        for box, mask in zip(found["boxes"], found["masks"][:, 0], strict=True):
            left, top, right, bottom = box.tolist()
            inside = (
                (columns > left + 1) & (columns < right - 1) & (rows > top + 1)[:, None] & (rows < bottom - 1)[:, None]
            )
            outside = (
                (columns < left - 1) | (columns > right + 1) | (rows < top - 1)[:, None] | (rows > bottom + 1)[:, None]
            )
            sure = inside & (edge > 2.5)
            assert ((mask > 0.5) == (image[0] > 0.5))[sure].all()
            assert (mask[outside] == 0).all()
            checked += int(sure.sum())
        assert checked > 200


@pytest.mark.parametrize("class_agnostic", [False, True])
def test_the_mask_is_that_of_the_label(class_agnostic: bool) -> None:
    """torchvision counts labels from 1."""
    model = attached(small(box_detections_per_img=100), class_agnostic=class_agnostic)
    classifier = model.roi_heads.mask_head.point_head.classifier
    assert classifier.out_features == (1 if class_agnostic else 3)
    values = torch.tensor([9.0]) if class_agnostic else torch.tensor([-9.0, 0.0, 9.0])
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.bias.copy_(values)
    labels = set()
    for found in run(model, pictures()):
        for label, box, mask in zip(found["labels"].tolist(), found["boxes"], found["masks"][:, 0], strict=True):
            x, y = ((box[:2] + box[2:]) / 2).long().tolist()
            expected = values[0 if class_agnostic else label - 1].sigmoid()
            torch.testing.assert_close(mask[y, x], expected, atol=1e-4, rtol=0)
            labels.add(label)
    assert len(labels) > 1


def test_pasting_keeps_the_area_that_whole_pixels_lose() -> None:
    """Half of a box of odd place and size is half of its area; torchvision's pasting moves and stretches it."""
    generator = torch.Generator().manual_seed(0)
    corner, extent = torch.rand(30, 2, generator=generator) * 20 + 5, torch.rand(30, 2, generator=generator) * 30 + 4
    boxes = torch.cat((corner, corner + extent), dim=1)
    masks = torch.zeros(30, 1, 224, 224)
    masks[..., :112] = 1
    wanted = extent.prod(dim=1) / 2
    centre = corner[:, 0] + extent[:, 0] / 4

    def errors(images: Tensor) -> tuple[float, float]:
        """The largest error of the area, as a share of the box's edge, and of the place in pixels."""
        area = images.sum(dim=(1, 2, 3))
        place = (images.sum(dim=(1, 2)) * (torch.arange(80) + 0.5)).sum(dim=1) / area
        return float(((area - wanted) / extent.sum(dim=1)).abs().max()), float((place - centre).abs().max())

    ours = errors(pasted(masks, boxes, (80, 80)))
    theirs = errors(paste_masks_in_image(masks, boxes, (80, 80)))
    assert ours[0] < 0.01
    assert ours[1] < 0.05
    assert theirs[0] > 0.1
    assert theirs[1] > 0.2


def test_no_detections_have_no_masks() -> None:
    model = attached(small(box_score_thresh=0.999))
    for image, found in zip(pictures(), run(model, pictures()), strict=True):
        assert len(found["boxes"]) == 0
        assert found["masks"].shape == (0, 1, *image.shape[1:])


def test_images_with_and_without_detections_in_one_batch() -> None:
    model = attached(small())
    scores = [found["scores"].max() for found in run(model, pictures())]
    assert scores[0] != scores[1]
    model.roi_heads.score_thresh = float(min(scores) + (max(scores) - min(scores)) / 2)
    found = run(model, pictures())
    assert sorted(len(f["masks"]) > 0 for f in found) == [False, True]


# what it refuses


def without_stride_4() -> MaskRCNN:
    backbone = Pyramid(strides=(8, 16))
    return MaskRCNN(backbone, 2, rpn_anchor_generator=AnchorGenerator(((16,), (24,)), ((1.0,),) * 2))


def customised() -> MaskRCNN:
    class Heads(type(small().roi_heads)):  # type: ignore[misc]
        pass

    model = small()
    model.roi_heads.__class__ = Heads
    return model


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (
            lambda: FasterRCNN(Pyramid(), 2, rpn_anchor_generator=ANCHORS),
            {},
            "expected a torchvision MaskRCNN, got FasterRCNN",
        ),
        (
            lambda: KeypointRCNN(Pyramid(), 2, rpn_anchor_generator=ANCHORS),
            {},
            "expected a torchvision MaskRCNN, got KeypointRCNN",
        ),
        (lambda: nn.Linear(1, 1), {}, "expected a torchvision MaskRCNN, got Linear"),
        (without_stride_4, {}, "stride 4, the backbone's have strides 8, 16"),
        (lambda: attached(small()), {}, "has PointRend already"),
        (customised, {}, "got Heads and GeneralizedRCNNTransform"),
        (lambda: small(size_divisible=1), {}, "size_divisible that 4 divides"),
        (small, {"paste": "nearest"}, "paste must be 'area' or 'bilinear', got 'nearest'"),
        (small, {"subdivision": Subdivision(784, 3)}, "a start grid of at least 1 pixel a side, got 0"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_changes_nothing(
    build: Callable[[], nn.Module], settings: dict[str, object], message: str
) -> None:
    model = build()
    before = dict(model.named_modules())
    with pytest.raises(ValueError, match=message) as error:
        attached(model, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("masks"), "must have boxes, labels and masks, got boxes, labels"),
        (lambda t: t.update(masks=t["masks"][:1]), "disagree"),
        (lambda t: t.update(labels=t["labels"].int()), "int64"),
    ],
)
def test_wrong_targets_are_one_line(change: Callable[[dict[str, Tensor]], object], message: str) -> None:
    model = attached(small()).train()
    batch = targets()
    change(batch[0])
    with pytest.raises(ValueError, match=message) as error:
        model(pictures(), batch)
    assert "\n" not in str(error.value)


def test_the_host_had_a_mask_head_to_lose() -> None:
    model = small()
    assert any(isinstance(m, MaskRCNNHeads) for m in model.modules())
    assert not any(isinstance(m, MaskRCNNHeads) for m in attached(model).modules())
