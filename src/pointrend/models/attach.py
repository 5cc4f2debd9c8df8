"""PointRend on a detector that is not ours: torchvision's Mask R-CNN, whoever built it.

Shapes: N images, R regions, C classes, P points, H W an image's own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pointrend.core.pasting import Paste, paste_mask
from pointrend.core.points import Padding
from pointrend.models.mask_head import CoarseMaskHead, PointRendMaskHead
from pointrend.models.mask_losses import mask_losses, positives_of, read_bitmasks
from pointrend.models.point_head import PointHead

STRIDE = 4
"""Of the map that masks are read from."""
PROBE = 128
"""The side of the empty image that shows what a model's parts give."""


def attach_pointrend(
    model: MaskRCNN,
    *,
    class_agnostic: bool = False,
    coarse_channels: int = 256,
    coarse_hidden: int = 1024,
    point_hidden: int = 256,
    point_depth: int = 3,
    coarse_every_layer: bool = True,
    point_normalize: bool = False,
    padding: Padding = "zeros",
    num_points: int = 196,
    oversample: float = 3.0,
    importance: float = 0.75,
    coarse_weight: float = 1.0,
    point_weight: float = 1.0,
    start: int = 28,
    subdivision_points: int = 784,
    steps: int = 3,
    paste: Paste = "area",
) -> MaskRCNN:
    """Give a torchvision Mask R-CNN the masks of PointRend (paper, section 4.1), with new weights that need training.

    The model itself is changed and returned, as `Module.to` does: backbone, RPN and box head stay the same objects, so
    boxes, labels and scores stay what they were. After an error nothing has changed.

    In evaluation `masks` are (R, 1, H, W) probabilities as before, rendered at `start * 2 ** steps` cells a side and
    pasted by `pointrend.core.pasting`. torchvision's own pasting rounds boxes to whole pixels, which moves a mask by up
    to one; that is as much as rendering adds. In training `loss_mask` gives way to `loss_mask_coarse` and
    `loss_mask_points`, and masks are trained on the predicted boxes. The points come from torch's global generator, as
    torchvision's own samples do. TorchScript and ONNX are not supported.

    Args:
        model: `maskrcnn_resnet50_fpn`, its v2, or another `MaskRCNN` with a feature map of stride 4.
        class_agnostic: one mask for all classes.
        coarse_channels, coarse_hidden: see `CoarseMaskHead`.
        point_hidden, point_depth, coarse_every_layer, point_normalize: see `PointHead`.
        padding: how points read the maps, see `sample_points`.
        num_points, oversample, importance: of training, see `core.training_points`.
        coarse_weight, point_weight: what the two losses are multiplied by.
        start, subdivision_points, steps: of rendering, see `PointRendMaskHead.render`.
        paste: see `core.pasting.paste_mask`.

    Raises:
        ValueError: it is no torchvision Mask R-CNN, or one whose parts were replaced by others than torchvision's, or
            it has no map of stride 4; one line.
    """
    transform, heads = _replaceable(model)
    if paste not in ("area", "bilinear"):
        raise ValueError(f"paste must be 'area' or 'bilinear', got {paste!r}")
    if min(num_points, start, subdivision_points) < 1 or steps < 0:
        raise ValueError(
            "expected num_points, start and subdivision_points of at least 1 and steps of at least 0, "
            f"got {num_points}, {start}, {subdivision_points} and {steps}"
        )
    parts = _probed(model, heads)
    num_masks = 1 if class_agnostic else parts.num_classes
    mask_head = PointRendMaskHead(
        coarse_head=CoarseMaskHead(
            in_channels=parts.channels, num_classes=num_masks, channels=coarse_channels, hidden=coarse_hidden
        ),
        point_head=PointHead(
            in_channels=parts.channels,
            num_classes=num_masks,
            hidden=point_hidden,
            depth=point_depth,
            coarse_every_layer=coarse_every_layer,
            normalize=point_normalize,
        ),
        padding=padding,
    )
    device = next(model.parameters()).device
    new_heads = PointRendHeads(
        heads,
        mask_head.to(device),
        level=parts.level,
        num_points=num_points,
        oversample=oversample,
        importance=importance,
        coarse_weight=coarse_weight,
        point_weight=point_weight,
        start=start,
        subdivision_points=subdivision_points,
        steps=steps,
    )
    model.roi_heads = new_heads.train(heads.training)
    model.transform = PastingTransform(transform, paste).train(transform.training)
    return model


class PointRendHeads(RoIHeads):
    """torchvision's heads with PointRend for masks; `attach_pointrend` makes them.

    Args:
        heads: whose parts are taken over, but for the mask head.
        mask_head: of C classes, or one.
        level: the name of the feature map of stride 4.
        num_points, oversample, importance, coarse_weight, point_weight, start, subdivision_points, steps: see
            `attach_pointrend`.
    """

    def __init__(
        self,
        heads: RoIHeads,
        mask_head: PointRendMaskHead,
        *,
        level: str,
        num_points: int,
        oversample: float,
        importance: float,
        coarse_weight: float,
        point_weight: float,
        start: int,
        subdivision_points: int,
        steps: int,
    ) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            heads.box_roi_pool,
            heads.box_head,
            heads.box_predictor,
            heads.proposal_matcher.high_threshold,
            heads.proposal_matcher.low_threshold,
            heads.fg_bg_sampler.batch_size_per_image,
            heads.fg_bg_sampler.positive_fraction,
            heads.box_coder.weights,
            heads.score_thresh,
            heads.nms_thresh,
            heads.detections_per_img,
        )
        # Whatever was set on these after they were built.
        self.proposal_matcher, self.fg_bg_sampler = heads.proposal_matcher, heads.fg_bg_sampler
        self.box_coder = heads.box_coder
        # Without the other two parts of a mask head torchvision's own forward leaves masks alone.
        self.mask_head = mask_head
        self.level = level
        self.num_points = num_points
        self.oversample = oversample
        self.importance = importance
        self.coarse_weight = coarse_weight
        self.point_weight = point_weight
        self.start = start
        self.subdivision_points = subdivision_points
        self.steps = steps

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """What torchvision's heads give: the detections of each image, or the losses while training.

        Args:
            features: maps (N, D, h, w) by name.
            proposals: (R, 4) of each image, xyxy in pixels.
            image_shapes: (h, w) of each image without padding.
            targets: of each image "boxes" (R, 4), "labels" (R,) counted from 1 and "masks" (R, h, w), in training.
        """
        if self.training:
            return [], self._losses(features, proposals, image_shapes, _checked(targets))
        result: list[dict[str, Tensor]]
        result, losses = super().forward(features, proposals, image_shapes)
        boxes = [found["boxes"] for found in result]
        fine = features[self.level]
        stages = self.mask_head.render(
            (fine,),
            boxes,
            torch.cat([found["labels"] for found in result]) - 1,
            _padded_size(fine),
            start=self.start,
            num_points=self.subdivision_points,
            steps=self.steps,
        )
        probabilities = torch.split(stages[-1].sigmoid(), [len(b) for b in boxes])
        for found, masks in zip(result, probabilities, strict=True):
            found["masks"] = masks
        return result, losses

    def _losses(
        self,
        features: Mapping[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        regions, matched, labels, regression = self.select_training_samples(proposals, targets)
        pooled = self.box_roi_pool(features, regions, image_shapes)
        class_logits, deltas = self.box_predictor(self.box_head(pooled))
        class_loss, box_loss = fastrcnn_loss(class_logits, deltas, labels, regression)
        decoded = self.box_coder.decode(deltas.detach().float(), regions)
        positives = positives_of(decoded.reshape(len(deltas), -1, 4), labels, matched)
        masks = [target["masks"] for target in targets]
        fine = features[self.level]
        losses = mask_losses(
            self.mask_head,
            (fine,),
            positives,
            _padded_size(fine),
            lambda points_box: read_bitmasks(masks, positives.matched, positives.boxes, points_box),
            num_points=self.num_points,
            oversample=self.oversample,
            importance=self.importance,
        )
        return {
            "loss_classifier": class_loss,
            "loss_box_reg": box_loss,
            "loss_mask_coarse": self.coarse_weight * losses.coarse,
            "loss_mask_points": self.point_weight * losses.points,
        }


class PastingTransform(GeneralizedRCNNTransform):
    """torchvision's transform, which pastes masks where their boxes are, not where the nearest whole pixels are."""

    def __init__(self, transform: GeneralizedRCNNTransform, paste: Paste) -> None:
        super().__init__(
            transform.min_size,
            transform.max_size,
            transform.image_mean,
            transform.image_std,
            transform.size_divisible,
            transform.fixed_size,
            _skip_resize=transform._skip_resize,
        )
        self.paste: Paste = paste

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Boxes and masks (R, 1, M, M) of each image's network input -> those of the image: (R, 1, H, W)."""
        masks = [found.pop("masks", None) for found in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for found, of_image, size in zip(result, masks, original_image_sizes, strict=False):  # no results in training
            if of_image is not None:
                found["masks"] = pasted(of_image, found["boxes"], size, paste=self.paste)
        return result


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int], *, paste: Paste = "area") -> Tensor:
    """Probabilities (R, 1, M, M) of boxes (R, 4) -> (R, 1, H, W) of an image of that size."""
    images = masks.new_zeros((len(masks), 1, *size), dtype=torch.float32)
    for image, mask, box in zip(images, masks, boxes, strict=True):
        (left, top, right, bottom), values = paste_mask(mask[0], box, size, mode=paste)
        image[0, top:bottom, left:right] = values
    return images


def _checked(targets: list[dict[str, Tensor]] | None) -> list[dict[str, Tensor]]:
    if targets is None:
        raise ValueError("training needs targets, a dict of boxes, labels and masks for each image; got None")
    for target in targets:
        boxes, labels, masks = (target.get(key) for key in ("boxes", "labels", "masks"))
        if boxes is None or labels is None or masks is None:
            raise ValueError(
                f"a target must have boxes, labels and masks, got {', '.join(sorted(target)) or 'nothing'}"
            )
        if not boxes.is_floating_point() or labels.dtype != torch.int64:
            raise ValueError(
                f"a target's boxes must be floating and labels int64, got {boxes.dtype} and {labels.dtype}"
            )
        if masks.ndim != 3 or not len(boxes) == len(labels) == len(masks):
            raise ValueError(
                "a target's boxes (R, 4), labels (R,) and masks (R, H, W) disagree: "
                f"{tuple(boxes.shape)}, {tuple(labels.shape)}, {tuple(masks.shape)}"
            )
    return targets


def _padded_size(fine: Tensor) -> tuple[int, int]:
    """(H, W) of the batch with its padding, which is what points are relative to."""
    return fine.shape[2] * STRIDE, fine.shape[3] * STRIDE


def _replaceable(model: MaskRCNN) -> tuple[GeneralizedRCNNTransform, RoIHeads]:
    """The two parts that are replaced."""
    if not isinstance(model, MaskRCNN):
        raise ValueError(
            f"expected a torchvision MaskRCNN, got {type(model).__name__}; build one, or see InstancePointRend"
        )
    transform, heads = model.transform, model.roi_heads
    if isinstance(heads, PointRendHeads):
        raise ValueError("the model has PointRend already: attach it once")
    if type(heads) is not RoIHeads or type(transform) is not GeneralizedRCNNTransform:
        raise ValueError(
            "expected torchvision's own RoIHeads and GeneralizedRCNNTransform, which are replaced, "
            f"got {type(heads).__name__} and {type(transform).__name__}"
        )
    if heads.has_keypoint():  # type: ignore[no-untyped-call]
        raise ValueError("expected a MaskRCNN without keypoints, got one with a keypoint head: set its parts to None")
    if transform.size_divisible % STRIDE:
        raise ValueError(
            f"the model pads its input to a multiple of {transform.size_divisible}: "
            f"build it with a size_divisible that {STRIDE} divides"
        )
    return transform, heads


class _Parts(NamedTuple):
    """What a model's parts gave when asked."""

    level: str
    channels: int
    num_classes: int


@torch.no_grad()
def _probed(model: MaskRCNN, heads: RoIHeads) -> _Parts:
    """Asks the parts themselves: backbones and box heads of others do not say what they give."""
    parameter = next(model.parameters())
    box = parameter.new_tensor([[0, 0, PROBE, PROBE]])
    with _evaluating(model):
        found = model.backbone(parameter.new_zeros(1, 3, PROBE, PROBE))
        features: Mapping[str, Tensor] = {"0": found} if isinstance(found, Tensor) else found
        level = _level_of_stride(features)
        pooled = heads.box_roi_pool(dict(features), [box], [(PROBE, PROBE)])
        class_logits, _ = heads.box_predictor(heads.box_head(pooled))
    return _Parts(level, features[level].shape[1], class_logits.shape[1] - 1)


def _level_of_stride(features: Mapping[str, Tensor]) -> str:
    side = PROBE // STRIDE
    for name, level in features.items():
        if tuple(level.shape[2:]) == (side, side):
            return name
    strides = ", ".join(f"{PROBE / level.shape[3]:g}" for level in features.values())
    raise ValueError(
        f"masks are read from a feature map of stride {STRIDE}, the backbone's have strides {strides}; "
        "return its earlier layers too (returned_layers=[1, 2, 3, 4])"
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each part's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
