"""Published networks written down a second time, straight from a checkpoint's own names and with nothing of ours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def published_logits(w: dict[str, Tensor], image: Tensor, *, num_points: int, caffe: bool) -> Tensor:
    """Logits of an image (1, 3, H, W), RGB in 0..255: mmsegmentation's networks, or detectron2's (`caffe`)."""
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    if caffe:
        image = (image - mean).flip(1)
        x = F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32))
    else:
        x = (image - mean) / torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    size = x.shape[2:]
    pyramid = _pyramid(w, _resnet(w, x, caffe=caffe), caffe=caffe)
    coarse = _coarse(w, pyramid, caffe=caffe)
    logits = coarse
    for _ in range(2):
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        _, classes, height, width = logits.shape
        best = logits[0].flatten(1).sort(dim=0, descending=True).values
        chosen = (best[1] - best[0]).argsort(descending=True)[: min(num_points, height * width)]
        points = torch.stack(((chosen % width + 0.5) / width, (chosen // width + 0.5) / height), dim=1)[None, None]
        fine, rough = (
            F.grid_sample(m, 2 * points - 1, mode="bilinear", padding_mode="zeros", align_corners=False)[0, :, 0]
            for m in (pyramid[0], coarse)
        )
        logits.view(classes, -1)[:, chosen] = _points(w, fine, rough, caffe=caffe)
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _norm(w: dict[str, Tensor], x: Tensor, name: str) -> Tensor:
    mean, var, scale, shift = (w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    scale = scale / (var + 1e-5).sqrt()
    return x * scale.view(1, -1, 1, 1) + (shift - mean * scale).view(1, -1, 1, 1)


def _resnet(w: dict[str, Tensor], x: Tensor, *, caffe: bool) -> list[Tensor]:
    if caffe:
        stem = "backbone.bottom_up.stem.conv1"
        x = _norm(w, F.conv2d(x, w[f"{stem}.weight"], stride=2, padding=3), f"{stem}.norm").relu()
    else:
        for conv, stride in ((0, 2), (3, 1), (6, 1)):
            x = F.conv2d(x, w[f"backbone.stem.{conv}.weight"], stride=stride, padding=1)
            x = _norm(w, x, f"backbone.stem.{conv + 1}").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in range(1, 5):
        block = 0
        while f"{(root := _block(stage, block, caffe=caffe))}.conv1.weight" in w:
            x = _bottleneck(w, x, root, stride=2 if stage > 1 and block == 0 else 1, caffe=caffe)
            block += 1
        maps.append(x)
    return maps


def _block(stage: int, block: int, *, caffe: bool) -> str:
    return f"backbone.bottom_up.res{stage + 1}.{block}" if caffe else f"backbone.layer{stage}.{block}"


def _bottleneck(w: dict[str, Tensor], x: Tensor, root: str, *, stride: int, caffe: bool) -> Tensor:
    norms = [f"{root}.conv{i}.norm" if caffe else f"{root}.bn{i}" for i in (1, 2, 3)]
    strides = (stride, 1) if caffe else (1, stride)
    out = _norm(w, F.conv2d(x, w[f"{root}.conv1.weight"], stride=strides[0]), norms[0]).relu()
    out = _norm(w, F.conv2d(out, w[f"{root}.conv2.weight"], stride=strides[1], padding=1), norms[1]).relu()
    out = _norm(w, F.conv2d(out, w[f"{root}.conv3.weight"]), norms[2])
    short = (f"{root}.shortcut", f"{root}.shortcut.norm") if caffe else (f"{root}.downsample.0", f"{root}.downsample.1")
    if f"{short[0]}.weight" in w:
        x = _norm(w, F.conv2d(x, w[f"{short[0]}.weight"], stride=stride), short[1])
    return (x + out).relu()


def _pyramid(w: dict[str, Tensor], maps: list[Tensor], *, caffe: bool) -> list[Tensor]:
    names = [
        (f"backbone.fpn_lateral{i + 2}", f"backbone.fpn_output{i + 2}")
        if caffe
        else (f"neck.lateral_convs.{i}.conv", f"neck.fpn_convs.{i}.conv")
        for i in range(4)
    ]
    top: Tensor | None = None
    levels = []
    for (lateral, output), m in reversed(list(zip(names, maps, strict=True))):
        inner = F.conv2d(m, w[f"{lateral}.weight"], w[f"{lateral}.bias"])
        top = inner if top is None else inner + F.interpolate(top, size=inner.shape[2:], mode="nearest")
        levels.append(F.conv2d(top, w[f"{output}.weight"], w[f"{output}.bias"], padding=1))
    return levels[::-1]


def _coarse(w: dict[str, Tensor], pyramid: list[Tensor], *, caffe: bool) -> Tensor:
    total: Tensor | None = None
    for level, x in enumerate(pyramid):
        for block in range(max(1, level)):
            if caffe:
                root = f"sem_seg_head.coarse_sem_seg_head.p{level + 2}.{2 * block}"
                x = F.conv2d(x, w[f"{root}.weight"], padding=1)
                x = F.group_norm(x, 32, w[f"{root}.norm.weight"], w[f"{root}.norm.bias"]).relu()
            else:
                root = f"decode_head.0.scale_heads.{level}.{2 * block}"
                x = _norm(w, F.conv2d(x, w[f"{root}.conv.weight"], padding=1), f"{root}.bn").relu()
            if level > 0:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        if total is not None:
            x = total + F.interpolate(x, size=total.shape[2:], mode="bilinear", align_corners=False)
        total = x
    assert total is not None
    last = "sem_seg_head.coarse_sem_seg_head.predictor" if caffe else "decode_head.0.conv_seg"
    return F.conv2d(total, w[f"{last}.weight"], w[f"{last}.bias"])


def _points(w: dict[str, Tensor], fine: Tensor, coarse: Tensor, *, caffe: bool) -> Tensor:
    """fine (D, P), coarse (C, P) -> logits (C, P)."""
    layers = (
        [f"sem_seg_head.point_head.fc{i}" for i in (1, 2, 3)]
        if caffe
        else [f"decode_head.1.fcs.{i}.conv" for i in range(3)]
    )
    last = "sem_seg_head.point_head.predictor" if caffe else "decode_head.1.fc_seg"
    x = torch.cat((fine, coarse))
    for layer in layers:
        x = F.conv1d(x[None], w[f"{layer}.weight"], w[f"{layer}.bias"])[0].relu()
        if not caffe:
            x = torch.cat((x, coarse))
    return F.conv1d(x[None], w[f"{last}.weight"], w[f"{last}.bias"])[0]


RCNN_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
RCNN_STRIDES = (4, 8, 16, 32, 64)
RESNEXT_STD = (57.375, 57.12, 58.395)


def rcnn_outputs(w: dict[str, Tensor], image: Tensor, boxes: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """What a reference of detectron2's PointRend on Mask R-CNN holds, of an image (1, 3, H, W), RGB in 0..255."""
    height, width = image.shape[2:]
    wide = w["backbone.bottom_up.res2.0.conv2.weight"].shape[1] != w["backbone.bottom_up.res2.0.conv2.weight"].shape[0]
    x = (image - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)).flip(1)
    if wide:  # grouped convolutions: ResNeXt
        x = x / torch.tensor(RESNEXT_STD).view(3, 1, 1)
    x = F.pad(x, (0, -width % 32, 0, -height % 32))
    padded = (x.shape[2], x.shape[3])
    levels = _pyramid(w, _rcnn_resnet(w, x, grouped=wide), caffe=True)
    levels.append(F.max_pool2d(levels[3], 1, 2))
    objectness, deltas = zip(*(_rpn(w, level) for level in levels), strict=True)
    proposals, logits = _proposals(objectness, deltas, (height, width))
    class_logits, box_deltas = _box_head(w, levels, boxes)
    coarse = _coarse_masks(w, levels[0], boxes, padded)
    found = _detections(w, levels, proposals, (height, width))
    rows = torch.arange(len(boxes))
    return {
        "p2": levels[0][0, :8], "rpn_objectness_p4": objectness[2][0], "rpn_deltas_p4": deltas[2][0],
        "proposals": proposals[:200], "proposal_logits": logits[:200], "boxes": boxes, "classes": classes,
        "class_logits": class_logits, "box_deltas": box_deltas, "coarse_masks": coarse[rows, classes],
        "mask_probs": _fine_masks(w, levels[0], coarse, boxes, classes, padded).sigmoid(),
        "det_boxes": found[0], "det_scores": found[1], "det_classes": found[2],
    }  # fmt: skip


def _rcnn_resnet(w: dict[str, Tensor], x: Tensor, *, grouped: bool) -> list[Tensor]:
    stem = "backbone.bottom_up.stem.conv1"
    x = _norm(w, F.conv2d(x, w[f"{stem}.weight"], stride=2, padding=3), f"{stem}.norm").relu()
    x = F.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage in (2, 3, 4, 5):
        block = 0
        while f"{(root := f'backbone.bottom_up.res{stage}.{block}')}.conv1.weight" in w:
            stride = 2 if stage > 2 and block == 0 else 1
            middle = w[f"{root}.conv2.weight"]
            strides, groups = ((1, stride), middle.shape[0] // middle.shape[1]) if grouped else ((stride, 1), 1)
            out = _norm(w, F.conv2d(x, w[f"{root}.conv1.weight"], stride=strides[0]), f"{root}.conv1.norm").relu()
            out = F.conv2d(out, middle, stride=strides[1], padding=1, groups=groups)
            out = _norm(
                w, F.conv2d(_norm(w, out, f"{root}.conv2.norm").relu(), w[f"{root}.conv3.weight"]), f"{root}.conv3.norm"
            )
            if f"{root}.shortcut.weight" in w:
                x = _norm(w, F.conv2d(x, w[f"{root}.shortcut.weight"], stride=stride), f"{root}.shortcut.norm")
            x = (x + out).relu()
            block += 1
        maps.append(x)
    return maps


def _rpn(w: dict[str, Tensor], level: Tensor) -> tuple[Tensor, Tensor]:
    root = "proposal_generator.rpn_head"
    x = F.conv2d(level, w[f"{root}.conv.weight"], w[f"{root}.conv.bias"], padding=1).relu()
    return (
        F.conv2d(x, w[f"{root}.objectness_logits.weight"], w[f"{root}.objectness_logits.bias"]),
        F.conv2d(x, w[f"{root}.anchor_deltas.weight"], w[f"{root}.anchor_deltas.bias"]),
    )


def _moved(boxes: Tensor, deltas: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes (R, 4) moved and scaled by deltas (R, 4)."""
    size = boxes[:, 2:] - boxes[:, :2]
    center = boxes[:, :2] + size / 2 + deltas[:, :2] / torch.tensor(weights[:2]) * size
    size = (deltas[:, 2:] / torch.tensor(weights[2:])).clamp(max=math.log(1000 / 16)).exp() * size
    return torch.cat((center - size / 2, center + size / 2), dim=1)


def _clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    limit = torch.tensor((size[1], size[0], size[1], size[0]))
    return boxes.clamp(min=0).minimum(limit)


def _proposals(
    objectness: tuple[Tensor, ...], deltas: tuple[Tensor, ...], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    kept_boxes, kept_logits = [], []
    for logits, moves, anchor, stride in zip(objectness, deltas, RCNN_SIZES, RCNN_STRIDES, strict=True):
        _, ratios, rows, columns = logits.shape
        shapes = [(math.sqrt(anchor**2 / r), math.sqrt(anchor**2 / r) * r) for r in (0.5, 1.0, 2.0)]
        anchors = torch.tensor([
            (x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2)
            for y in range(rows) for x in range(columns) for w, h in shapes
        ])  # fmt: skip
        flat = moves[0].view(ratios, 4, rows, columns).permute(2, 3, 0, 1).reshape(-1, 4)
        scores = logits[0].permute(1, 2, 0).reshape(-1)
        order = scores.argsort(descending=True)[:1000]
        boxes = _clipped(_moved(anchors[order], flat[order], (1, 1, 1, 1)), size)
        some = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
        boxes, scores = boxes[some], scores[order][some]
        best = torchvision.ops.nms(boxes, scores, 0.7)
        kept_boxes.append(boxes[best])
        kept_logits.append(scores[best])
    all_boxes, all_logits = torch.cat(kept_boxes), torch.cat(kept_logits)
    order = all_logits.argsort(descending=True)[:1000]
    return all_boxes[order], all_logits[order]


def _box_head(w: dict[str, Tensor], levels: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    pooled = []
    for box in boxes:
        side = float((box[2:] - box[:2]).prod().sqrt())
        level = min(3, max(0, math.floor(4 + math.log2(side / 224 + 1e-8)) - 2))
        pooled.append(
            torchvision.ops.roi_align(levels[level], [box[None]], 7, 1 / RCNN_STRIDES[level], 0, aligned=True)
        )
    x = torch.cat(pooled).flatten(1)
    for layer in ("fc1", "fc2"):
        x = F.linear(x, w[f"roi_heads.box_head.{layer}.weight"], w[f"roi_heads.box_head.{layer}.bias"]).relu()
    root = "roi_heads.box_predictor"
    classes, deltas = (F.linear(x, w[f"{root}.{n}.weight"], w[f"{root}.{n}.bias"]) for n in ("cls_score", "bbox_pred"))
    return classes, deltas


def _detections(
    w: dict[str, Tensor], levels: list[Tensor], proposals: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    logits, deltas = _box_head(w, levels, proposals)
    scores = logits.softmax(dim=1)
    boxes, best, of_class = [], [], []
    for index in range(scores.shape[1] - 1):
        moved = _clipped(_moved(proposals, deltas[:, 4 * index : 4 * index + 4], (10, 10, 5, 5)), size)
        likely = scores[:, index] > 0.02
        kept = torchvision.ops.nms(moved[likely], scores[likely, index], 0.5)
        boxes.append(moved[likely][kept])
        best.append(scores[likely, index][kept])
        of_class.append(torch.full((len(kept),), index))
    order = torch.cat(best).argsort(descending=True)[:30]
    return torch.cat(boxes)[order], torch.cat(best)[order], torch.cat(of_class)[order]


def _read(level: Tensor, boxes: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """level (1, D, h, w) at places (R, P, 2) in boxes -> (R, D, P)."""
    points = boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])
    grid = 2 * points / torch.tensor((size[1], size[0])) - 1
    return (
        F.grid_sample(level, grid.flatten(0, 1)[None, None], align_corners=False)[0, :, 0]
        .view(level.shape[1], len(boxes), -1)
        .transpose(0, 1)
    )


def _cells(side: int, regions: int) -> Tensor:
    at = (torch.arange(side) + 0.5) / side
    return torch.stack((at.repeat(side), at.repeat_interleave(side)), dim=1).expand(regions, -1, -1)


def _coarse_masks(w: dict[str, Tensor], p2: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    root = "roi_heads.mask_head.coarse_head"
    x = _read(p2, boxes, _cells(14, len(boxes)), size).view(len(boxes), -1, 14, 14)
    conv = f"{root}.reduce_spatial_dim_conv"
    x = F.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"], stride=2).relu().flatten(1)
    for layer in ("fc1", "fc2"):
        x = F.linear(x, w[f"{root}.{layer}.weight"], w[f"{root}.{layer}.bias"]).relu()
    return F.linear(x, w[f"{root}.prediction.weight"], w[f"{root}.prediction.bias"]).view(len(boxes), -1, 7, 7)


def _fine_masks(
    w: dict[str, Tensor], p2: Tensor, coarse: Tensor, boxes: Tensor, classes: Tensor, size: tuple[int, int]
) -> Tensor:
    root = "roi_heads.mask_head.point_head"

    def predicted(places: Tensor) -> Tensor:
        """(R, P) of all classes at places, and of these the own."""
        rough = F.grid_sample(coarse, 2 * places[:, None] - 1, align_corners=False)[:, :, 0]
        x = torch.cat((_read(p2, boxes, places, size), rough), dim=1)
        for layer in ("fc1", "fc2", "fc3"):
            x = F.conv1d(x, w[f"{root}.{layer}.weight"], w[f"{root}.{layer}.bias"]).relu()
            x = torch.cat((x, rough), dim=1)
        x = F.conv1d(x, w[f"{root}.predictor.weight"], w[f"{root}.predictor.bias"])
        return x[torch.arange(len(x)), classes]

    masks = predicted(_cells(28, len(boxes))).view(-1, 28, 28)
    for _ in range(3):
        masks = F.interpolate(masks[:, None], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
        side = masks.shape[-1]
        chosen = masks.flatten(1).abs().argsort(dim=1)[:, :784]
        places = torch.stack(((chosen % side + 0.5) / side, (chosen // side + 0.5) / side), dim=2)
        masks.view(len(masks), -1).scatter_(1, chosen, predicted(places))
    return masks
