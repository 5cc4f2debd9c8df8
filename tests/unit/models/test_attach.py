"""PointRend on torchvision's Mask R-CNN."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
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

from pointrend.core import regular_grid, sample_points
from pointrend.models.attach import PointRendHeads, attach_pointrend, pasted
from pointrend.models.mask_head import PointRendMaskHead, sample_in_boxes
from pointrend.models.mask_losses import read_bitmasks

ANCHORS = AnchorGenerator(((16,), (24,), (32,), (48,)), ((0.5, 1.0, 2.0),) * 4)


class Pyramid(nn.Module):
    """Four maps; the first channel of each is the image's brightness, seen through windows of the stride."""

    def __init__(self, strides: tuple[int, ...] = (4, 8, 16, 32), channels: int = 8) -> None:
        super().__init__()
        self.strides = strides
        self.out_channels = channels
        self.mix = nn.Conv2d(3, channels - 1, 1)
        self.norm = nn.BatchNorm2d(channels - 1)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = torch.cat((images.mean(dim=1, keepdim=True), self.norm(self.mix(images))), dim=1)
        return OrderedDict((str(i), F.avg_pool2d(maps, stride)) for i, stride in enumerate(self.strides))


def small(*, num_classes: int = 4, min_size: int = 96, **settings: object) -> MaskRCNN:
    torch.manual_seed(0)
    numbers: dict[str, object] = {
        "image_mean": (0.5, 0.5, 0.5),
        "image_std": (0.25, 0.25, 0.25),
        "rpn_pre_nms_top_n_test": 30,
        "rpn_post_nms_top_n_test": 20,
        "box_score_thresh": 0.0,
        "box_detections_per_img": 12,
        "rpn_anchor_generator": ANCHORS,
    }
    return MaskRCNN(Pyramid(), num_classes, min_size=min_size, max_size=400, **(numbers | settings)).eval()


def attach(model: MaskRCNN, **settings: object) -> MaskRCNN:
    numbers: dict[str, object] = {"coarse_channels": 8, "coarse_hidden": 16, "point_hidden": 8}
    return attach_pointrend(model, **(numbers | settings))


def pictures() -> list[Tensor]:
    """Two sizes, so that the batch is padded."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) for size in ((96, 128), (110, 97))]


def targets() -> list[dict[str, Tensor]]:
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    masks[0, 10:50, 20:70] = 1
    masks[1, 40:90, 60:128] = 1
    return [
        {
            "boxes": torch.tensor([[20.0, 10, 70, 50], [60, 40, 128, 90]]),
            "labels": torch.tensor([1, 3]),
            "masks": masks,
        },
        {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros(0, 110, 97, dtype=torch.uint8),
        },
    ]


@torch.no_grad()
def run(model: MaskRCNN, images: list[Tensor]) -> list[dict[str, Tensor]]:
    return model(images)


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
    assert attach(model) is model
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
    attach(model)
    assert before == {id(p) for name, p in model.named_parameters() if "mask" not in name}


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_statistics_stay(training: bool) -> None:
    model = small().train(training)
    model.backbone.norm.eval()
    before = model.backbone.norm.running_mean.clone()
    attach(model)
    assert {m.training for m in model.modules() if m is not model.backbone.norm} == {training}
    assert not model.backbone.norm.training
    assert torch.equal(model.backbone.norm.running_mean, before)


@torch.no_grad()
def test_settings_of_the_host_stay() -> None:
    model = small(
        min_size=64, box_nms_thresh=0.3, box_fg_iou_thresh=0.6, box_bg_iou_thresh=0.4, bbox_reg_weights=(1.0,) * 4
    )
    heads, transform = model.roi_heads, model.transform
    attach(model)
    new = model.roi_heads
    assert (new.nms_thresh, new.score_thresh, new.detections_per_img) == (0.3, 0.0, 12)
    assert new.proposal_matcher is heads.proposal_matcher
    assert new.fg_bg_sampler is heads.fg_bg_sampler
    assert new.box_coder is heads.box_coder
    for name in ("min_size", "max_size", "image_mean", "image_std", "size_divisible", "fixed_size"):
        assert getattr(model.transform, name) == getattr(transform, name)


def test_the_other_losses_stay() -> None:
    model = small()
    attached = attach(copy.deepcopy(model))
    model.train()
    attached.train()
    torch.manual_seed(3)
    old = model(pictures(), targets())
    torch.manual_seed(3)
    new = attached(pictures(), targets())
    assert set(old) - set(new) == {"loss_mask"}
    assert set(new) - set(old) == {"loss_mask_coarse", "loss_mask_points"}
    for key in set(old) & set(new):
        assert torch.equal(old[key], new[key]), key


def test_it_is_saved_loaded_copied_and_pickled() -> None:
    model = attach(small())
    images = pictures()
    expected = run(model, images)
    other = attach(small())
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

    def render(self, fine, boxes, classes, size, *, start=28, num_points=784, steps=3):  # type: ignore[no-untyped-def]
        side = start * 2**steps
        grid = regular_grid((side, side), batch=sum(len(b) for b in boxes))
        read = sample_in_boxes(fine[0][:, :1], boxes, grid, size, padding="border")
        return [(read * 1000).transpose(1, 2).unflatten(2, (side, side))]


@pytest.mark.parametrize("min_size", [96, 150])
def test_masks_lie_where_the_image_shows_it(min_size: int) -> None:
    """On a batch that is padded, at the image's scale and at another."""
    images = [torch.zeros(3, 96, 128), torch.zeros(3, 104, 96)]
    images[0][:, :, :61] = 1
    images[1][:, 36:] = 1
    model = attach(small(min_size=min_size))
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
    model = attach(small(box_detections_per_img=100), class_agnostic=class_agnostic)
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
    model = attach(small(box_score_thresh=0.999))
    for image, found in zip(pictures(), run(model, pictures()), strict=True):
        assert len(found["boxes"]) == 0
        assert found["masks"].shape == (0, 1, *image.shape[1:])


def test_images_with_and_without_detections_in_one_batch() -> None:
    model = attach(small())
    scores = [found["scores"].max() for found in run(model, pictures())]
    assert scores[0] != scores[1]
    model.roi_heads.score_thresh = float(min(scores) + (max(scores) - min(scores)) / 2)
    found = run(model, pictures())
    assert sorted(len(f["masks"]) > 0 for f in found) == [False, True]


# training


def test_losses_reach_every_parameter_and_are_finite() -> None:
    model = attach(small(), coarse_every_layer=True).train()
    torch.manual_seed(0)
    losses = model(pictures(), targets())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(p.grad.abs().sum() > 0 for p in model.roi_heads.mask_head.coarse_head.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.roi_heads.mask_head.point_head.parameters())


def test_images_without_objects_train_through() -> None:
    model = attach(small()).train()
    empty = targets()[1]
    batch = [dict(empty, masks=torch.zeros(0, 96, 128, dtype=torch.uint8)), empty]
    losses = model(pictures(), batch)
    assert losses["loss_mask_coarse"].item() == losses["loss_mask_points"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.roi_heads.mask_head.parameters())


def test_weights_of_the_losses() -> None:
    torch.manual_seed(0)
    plain = attach(small()).train()
    weighted = copy.deepcopy(plain)
    weighted.roi_heads.coarse_weight, weighted.roi_heads.point_weight = 3.0, 0.5
    torch.manual_seed(4)
    one = plain(pictures(), targets())
    torch.manual_seed(4)
    two = weighted(pictures(), targets())
    torch.testing.assert_close(two["loss_mask_coarse"], 3 * one["loss_mask_coarse"])
    torch.testing.assert_close(two["loss_mask_points"], 0.5 * one["loss_mask_points"])


def test_masks_are_learned() -> None:
    """A few steps on one image: the mask losses fall by half and the mask of its box is right."""
    torch.manual_seed(0)
    model = attach(small(num_classes=2), num_points=64).train()
    image = torch.zeros(3, 96, 128)
    image[:, 20:70, 30:90] = 1
    image[:, 20:40, 30:50] = 0  # a corner of the box is not the object
    mask = (image[:1] > 0).byte()
    target = {"boxes": torch.tensor([[30.0, 20, 90, 70]]), "labels": torch.tensor([1]), "masks": mask}
    optimizer = torch.optim.Adam(model.roi_heads.mask_head.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        losses = model([image], [target])
        loss = losses["loss_mask_coarse"] + losses["loss_mask_points"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] / 2
    heads = model.eval().roi_heads
    assert isinstance(heads, PointRendHeads)
    with torch.no_grad():
        fine = model.backbone(model.transform([image])[0].tensors)["0"]
        stages = heads.mask_head.render((fine,), [target["boxes"]], torch.zeros(1, dtype=torch.int64), (96, 128))
    found = pasted(stages[-1].sigmoid(), target["boxes"], (96, 128))[0, 0] > 0.5
    wanted = mask[0] > 0
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


def test_target_masks_are_read_as_sample_points_would() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [(torch.rand(n, 13, 17, generator=generator) > 0.5).byte() for n in (3, 0, 2)]
    matched = [torch.tensor([2, 0, 2, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([1])]
    boxes = [torch.rand(len(m), 4, generator=generator) * 8 for m in matched]
    boxes = [torch.cat((b[:, :2] - 2, b[:, :2] + 2 + b[:, 2:]), dim=1) for b in boxes]
    points = torch.rand(5, 50, 2, generator=generator)
    found = read_bitmasks(masks, matched, boxes, points)
    assert found.shape == (5, 50)
    region = 0
    for of_image, instances, image_boxes in zip(masks, matched, boxes, strict=True):
        for instance, box in zip(instances, image_boxes, strict=True):
            places = (box[:2] + points[region] * (box[2:] - box[:2])) / torch.tensor([17.0, 13.0])
            expected = sample_points(of_image[instance][None, None].float(), places[None])[0, :, 0]
            torch.testing.assert_close(found[region], expected, atol=1e-5, rtol=0)
            region += 1
    doubled = [m.bool() for m in masks]
    assert torch.equal(read_bitmasks(doubled, matched, boxes, points), found)


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
        (lambda: attach(small()), {}, "has PointRend already"),
        (customised, {}, "got Heads and GeneralizedRCNNTransform"),
        (lambda: small(size_divisible=1), {}, "size_divisible that 4 divides"),
        (small, {"paste": "nearest"}, "paste must be 'area' or 'bilinear', got 'nearest'"),
        (small, {"num_points": 0}, "at least 1"),
        (small, {"steps": -1}, "at least 0"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_changes_nothing(
    build: Callable[[], nn.Module], settings: dict[str, object], message: str
) -> None:
    model = build()
    before = dict(model.named_modules())
    with pytest.raises(ValueError, match=message) as error:
        attach(model, **settings)  # type: ignore[arg-type]
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
    model = attach(small()).train()
    batch = targets()
    change(batch[0])
    with pytest.raises(ValueError, match=message) as error:
        model(pictures(), batch)
    assert "\n" not in str(error.value)


def test_the_host_had_a_mask_head_to_lose() -> None:
    model = small()
    assert any(isinstance(m, MaskRCNNHeads) for m in model.modules())
    assert not any(isinstance(m, MaskRCNNHeads) for m in attach(model).modules())
