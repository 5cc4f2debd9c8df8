"""Replace the mask head of any torchvision `MaskRCNN` by PointRend's.

Shapes: N images, R regions, C classes, P points, H W an image's own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from pointrend.core import MASK_SAMPLING, MASK_SUBDIVISION, LossWeights, Sampling, Subdivision
from pointrend.core.pasting import Paste, paste_mask
from pointrend.errors import PointRendError
from pointrend.models.hosts.probe import evaluating
from pointrend.models.mask_head import PointRendMaskHead, mask_head
from pointrend.models.mask_losses import mask_losses, positives_of
from pointrend.models.mask_targets import bitmask_targets
from pointrend.models.settings import MaskArchitecture

STRIDE = 4
"""The stride of the map that masks are read from."""
PROBE = 128
"""The side of the empty image that a model's parts are probed with."""


def attach(
    model: MaskRCNN,
    architecture: MaskArchitecture = MaskArchitecture(),
    *,
    sampling: Sampling = MASK_SAMPLING,
    weights: LossWeights = LossWeights(),
    subdivision: Subdivision = MASK_SUBDIVISION,
    paste: Paste = "area",
) -> MaskRCNN:
    """Give a torchvision Mask R-CNN the masks of PointRend (paper, section 4.1), with new weights that need training.

    The model itself is changed and returned, as `Module.to` does: backbone, RPN and box head stay the same objects, so
    boxes, labels and scores stay what they were. After an error nothing has changed.

    In evaluation `masks` are (R, 1, H, W) probabilities as before, rendered at `start * 2 ** steps` pixels a side and
    pasted by `pointrend.core.pasting`. torchvision's own pasting rounds boxes to whole pixels, which moves a mask by up
    to one; that is as much as rendering adds. In training `loss_mask` gives way to `loss_mask_coarse` and
    `loss_mask_points`, and masks are trained on the predicted boxes. The points come from torch's global generator, as
    torchvision's own samples do. TorchScript and ONNX are not supported.

    Args:
        model: `maskrcnn_resnet50_fpn`, its v2, or another `MaskRCNN` with a feature map of stride 4.
        architecture: the numbers of the mask side.
        sampling: the points of training.
        weights: of the two mask losses.
        subdivision: how masks are rendered, from a start grid.
        paste: see `core.pasting.paste_mask`.

    Raises:
        PointRendError: the model is not a torchvision Mask R-CNN, or parts of it were replaced by others than
            torchvision's, or it has no map of stride 4.
    """
    transform, heads = _replaceable(model)
    if paste not in ("area", "bilinear"):
        raise PointRendError(f"paste must be 'area' or 'bilinear', got {paste!r}")
    if subdivision.start < 1:
        raise PointRendError(f"masks need a start grid of at least 1 pixel a side, got {subdivision.start}")
    parts = _probed(model, heads)
    device = next(model.parameters()).device
    new_heads = PointRendHeads(
        heads,
        mask_head(parts.num_classes, parts.channels, architecture).to(device),
        level=parts.level,
        sampling=sampling,
        weights=weights,
        subdivision=subdivision,
    )
    model.roi_heads = new_heads.train(heads.training)
    model.transform = PastingTransform(transform, paste).train(transform.training)
    return model


class PointRendHeads(RoIHeads):
    """torchvision's heads with PointRend for masks; `attach` builds them.

    Args:
        heads: the RoIHeads whose box branch is reused.
        mask_head: of C classes, or one.
        level: the name of the feature map of stride 4.
        sampling, weights, subdivision: see `attach`.
    """

    def __init__(
        self,
        heads: RoIHeads,
        mask_head: PointRendMaskHead,
        *,
        level: str,
        sampling: Sampling,
        weights: LossWeights,
        subdivision: Subdivision,
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
        # These may have been changed after they were built.
        self.proposal_matcher, self.fg_bg_sampler = heads.proposal_matcher, heads.fg_bg_sampler
        self.box_coder = heads.box_coder
        # Without the other two parts of a mask head, torchvision's forward leaves masks alone.
        self.mask_head = mask_head
        self.level = level
        self.sampling = sampling
        self.weights = weights
        self.subdivision = subdivision

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return what torchvision's heads do: the detections of each image, or the losses while training.

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
            self.subdivision,
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
            bitmask_targets(masks, positives.matched, positives.boxes),
            self.sampling,
        )
        return {
            "loss_classifier": class_loss,
            "loss_box_reg": box_loss,
            "loss_mask_coarse": self.weights.coarse * losses.coarse,
            "loss_mask_points": self.weights.points * losses.points,
        }


class PastingTransform(GeneralizedRCNNTransform):
    """torchvision's transform, but masks are pasted at the exact boxes, not at boxes rounded to whole pixels."""

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
        """Bring boxes and masks (R, 1, M, M) of each network input to the image: masks (R, 1, H, W)."""
        masks = [found.pop("masks", None) for found in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for found, of_image, size in zip(result, masks, original_image_sizes, strict=False):  # no results in training
            if of_image is not None:
                found["masks"] = pasted(of_image, found["boxes"], size, paste=self.paste)
        return result


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int], *, paste: Paste = "area") -> Tensor:
    """Paste probabilities (R, 1, M, M) of boxes (R, 4) into an image of a size: (R, 1, H, W)."""
    images = masks.new_zeros((len(masks), 1, *size), dtype=torch.float32)
    for image, mask, box in zip(images, masks, boxes, strict=True):
        (left, top, right, bottom), values = paste_mask(mask[0], box, size, mode=paste)
        image[0, top:bottom, left:right] = values
    return images


def _checked(targets: list[dict[str, Tensor]] | None) -> list[dict[str, Tensor]]:
    if targets is None:
        raise PointRendError("training needs targets, a dict of boxes, labels and masks for each image; got None")
    for target in targets:
        boxes, labels, masks = (target.get(key) for key in ("boxes", "labels", "masks"))
        if boxes is None or labels is None or masks is None:
            raise PointRendError(
                f"a target must have boxes, labels and masks, got {', '.join(sorted(target)) or 'nothing'}"
            )
        if not boxes.is_floating_point() or labels.dtype != torch.int64:
            raise PointRendError(
                f"a target's boxes must be floating and labels int64, got {boxes.dtype} and {labels.dtype}"
            )
        if masks.ndim != 3 or not len(boxes) == len(labels) == len(masks):
            raise PointRendError(
                "a target's boxes (R, 4), labels (R,) and masks (R, H, W) disagree: "
                f"{tuple(boxes.shape)}, {tuple(labels.shape)}, {tuple(masks.shape)}"
            )
    return targets


def _padded_size(fine: Tensor) -> tuple[int, int]:
    """Return (H, W) of the batch with its padding, which points are relative to."""
    return fine.shape[2] * STRIDE, fine.shape[3] * STRIDE


def _replaceable(model: MaskRCNN) -> tuple[GeneralizedRCNNTransform, RoIHeads]:
    """Return the two parts of a model that are replaced, or refuse the model."""
    if not isinstance(model, MaskRCNN):
        raise PointRendError(
            f"expected a torchvision MaskRCNN, got {type(model).__name__}; build one, or see InstancePointRend"
        )
    transform, heads = model.transform, model.roi_heads
    if isinstance(heads, PointRendHeads):
        raise PointRendError("the model has PointRend already: attach it once")
    if type(heads) is not RoIHeads or type(transform) is not GeneralizedRCNNTransform:
        raise PointRendError(
            "expected torchvision's own RoIHeads and GeneralizedRCNNTransform, which are replaced, "
            f"got {type(heads).__name__} and {type(transform).__name__}"
        )
    if heads.has_keypoint():  # type: ignore[no-untyped-call]
        raise PointRendError(
            "expected a MaskRCNN without keypoints, got one with a keypoint head: set its parts to None"
        )
    if transform.size_divisible % STRIDE:
        raise PointRendError(
            f"the model pads its input to a multiple of {transform.size_divisible}: "
            f"build it with a size_divisible that {STRIDE} divides"
        )
    return transform, heads


class _Parts(NamedTuple):
    """What a model's parts give for an empty image."""

    level: str
    channels: int
    num_classes: int


@torch.no_grad()
def _probed(model: MaskRCNN, heads: RoIHeads) -> _Parts:
    """Run an empty image to find the stride-4 level, its channels and the number of classes."""
    parameter = next(model.parameters())
    box = parameter.new_tensor([[0, 0, PROBE, PROBE]])
    with evaluating(model):
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
    raise PointRendError(
        f"masks are read from a feature map of stride {STRIDE}, the backbone's have strides {strides}; "
        "return its earlier layers too (returned_layers=[1, 2, 3, 4])"
    )
