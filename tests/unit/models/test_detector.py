"""The detector's own parts: anchors, proposals, RoIAlign by level, detections."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision import ops
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead

from pointrend.models import Detection
from pointrend.models.detector import (
    Anchors,
    LevelRoIAlign,
    ProposalNetwork,
    RpnOutput,
    best_detections,
)

SIZES = ((32,), (64,), (128,), (256,), (512,))
STRIDES = (4, 8, 16, 32, 64)


def network(**settings: object) -> ProposalNetwork:
    anchors = Anchors(sizes=((16,), (32,)), aspect_ratios=(0.5, 1.0, 2.0), strides=(4, 8))
    numbers: dict[str, object] = {
        "fg_iou_thresh": 0.7,
        "bg_iou_thresh": 0.3,
        "batch_size_per_image": 64,
        "positive_fraction": 0.5,
        "pre_nms_top_n": {},
        "post_nms_top_n": {},
        "nms_thresh": 0.7,
    }
    return ProposalNetwork(anchors, RPNHead(8, 3), **(numbers | settings))  # type: ignore[arg-type]


def raw(images: int = 2, *, seed: int = 0, scale: float = 1.0) -> RpnOutput:
    """Of inputs of 64 x 96."""
    generator = torch.Generator().manual_seed(seed)
    objectness = [torch.randn(images, 3, h, w, generator=generator) * scale for h, w in ((16, 24), (8, 12))]
    deltas = [torch.randn(images, 12, h, w, generator=generator) * 0.3 for h, w in ((16, 24), (8, 12))]
    return RpnOutput(objectness, deltas)


# anchors


def test_anchors_against_a_loop() -> None:
    """Row by row, column by column; at each place the ratios, and for each ratio the sizes. Not rounded."""
    sizes, ratios, strides = ((10, 20), (40, 80)), (0.5, 1.0, 2.0), (4, 16)
    grids = ((3, 5), (1, 2))
    expected = []
    for level_sizes, stride, (height, width) in zip(sizes, strides, grids, strict=True):
        for row in range(height):
            for column in range(width):
                for ratio in ratios:
                    for size in level_sizes:
                        w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
                        x, y = column * stride, row * stride
                        expected.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    anchors = Anchors(sizes=sizes, aspect_ratios=ratios, strides=strides)
    maps = [torch.zeros(2, 8, *grid) for grid in grids]
    found = anchors(ImageList(torch.zeros(2, 3, 12, 20), [(12, 20), (10, 11)]), maps)
    assert len(found) == 2
    for of_image in found:
        torch.testing.assert_close(of_image, torch.tensor(expected))
    assert anchors.num_anchors_per_location() == [6, 6]


def test_anchors_are_torchvisions_but_for_rounding() -> None:
    ours = Anchors(sizes=SIZES, aspect_ratios=(0.5, 1.0, 2.0), strides=STRIDES)
    theirs = AnchorGenerator(SIZES, ((0.5, 1.0, 2.0),) * 5)
    maps = [torch.zeros(1, 8, 128 // s, 192 // s) for s in STRIDES]
    images = ImageList(torch.zeros(1, 3, 128, 192), [(128, 192)])
    one, two = ours(images, maps)[0], theirs(images, maps)[0]
    assert one.shape == two.shape
    assert ((one - two).abs() <= 0.5).all()
    assert (one != two).any()


def test_strides_are_not_taken_from_sizes() -> None:
    """An input of 100 pixels has 4 cells of stride 32, which sizes would make a stride of 25."""
    anchors = Anchors(sizes=((32,),), aspect_ratios=(1.0,), strides=(32,))
    found = anchors(ImageList(torch.zeros(1, 3, 100, 100), [(100, 100)]), [torch.zeros(1, 8, 4, 4)])[0]
    centres = (found[:4, 0] + found[:4, 2]) / 2
    assert centres.tolist() == [0, 32, 64, 96]


def test_anchors_stay_in_single_precision() -> None:
    anchors = Anchors(sizes=((33,),), aspect_ratios=(2.0,), strides=(4,))
    maps = [torch.zeros(1, 8, 2, 600, dtype=torch.bfloat16)]
    found = anchors(ImageList(torch.zeros(1, 3, 8, 2400), [(8, 2400)]), maps)[0]
    assert found.dtype == torch.float32
    widths = found[:, 2] - found[:, 0]
    torch.testing.assert_close(widths, torch.full_like(widths, 33 / math.sqrt(2)), atol=1e-3, rtol=0)


def test_levels_need_sizes() -> None:
    with pytest.raises(ValueError, match="anchor sizes for 5 levels, got 1"):
        Anchors(sizes=((32,),), aspect_ratios=(1.0,), strides=STRIDES)


# proposals


def slow_proposals(
    made: ProposalNetwork, raw: RpnOutput, sizes: list[tuple[int, int]], *, per_level: int, total: int, nms: float
) -> list[tuple[Tensor, Tensor]]:
    """One anchor after the other."""
    anchors = made._anchors(raw, sizes)[0]
    result = []
    for image, (height, width) in enumerate(sizes):
        kept: list[tuple[float, Tensor]] = []
        first = 0
        for objectness, deltas in zip(raw.objectness, raw.deltas, strict=True):
            _, count, rows, columns = objectness.shape
            found = []
            for row in range(rows):
                for column in range(columns):
                    for a in range(count):
                        anchor = anchors[first]
                        first += 1
                        dx, dy, dw, dh = deltas[image, 4 * a : 4 * a + 4, row, column].tolist()
                        w, h = (anchor[2] - anchor[0]).item(), (anchor[3] - anchor[1]).item()
                        x, y = (anchor[0] + anchor[2]).item() / 2 + dx * w, (anchor[1] + anchor[3]).item() / 2 + dy * h
                        w, h = w * math.exp(dw), h * math.exp(dh)
                        box = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
                        found.append((objectness[image, a, row, column].item(), box))
            found = sorted(found, key=lambda pair: -pair[0])[:per_level]
            of_level: list[tuple[float, Tensor]] = []
            for logit, box in found:
                box = torch.stack(
                    (box[0].clamp(0, width), box[1].clamp(0, height), box[2].clamp(0, width), box[3].clamp(0, height))
                )
                if box[2] <= box[0] or box[3] <= box[1]:
                    continue
                if all(ops.box_iou(box[None], other[None]) <= nms for _, other in of_level):
                    of_level.append((logit, box))
            kept += of_level
        kept = sorted(kept, key=lambda pair: -pair[0])[:total]
        result.append((torch.stack([box for _, box in kept]), torch.tensor([logit for logit, _ in kept])))
    return result


def test_proposals_against_a_loop() -> None:
    made, output = network(), raw()
    sizes = [(64, 96), (50, 70)]
    found = made.proposals(output, sizes, per_level=60, total=40, nms=0.5)
    expected = slow_proposals(made, output, sizes, per_level=60, total=40, nms=0.5)
    for one, (boxes, logits) in zip(found, expected, strict=True):
        torch.testing.assert_close(one.logits, logits)
        torch.testing.assert_close(one.boxes, boxes, atol=1e-3, rtol=1e-4)


def test_proposals_are_torchvisions_where_nothing_saturates() -> None:
    made, output = (
        network(pre_nms_top_n={"training": 50, "testing": 50}, post_nms_top_n={"training": 30, "testing": 30}),
        raw(),
    )
    sizes = [(64, 96), (50, 70)]

    class Given(nn.Module):
        def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            return output.objectness, output.deltas

    made.head = Given()
    features = OrderedDict((str(i), torch.zeros_like(level)) for i, level in enumerate(output.objectness))
    with torch.no_grad():
        theirs, _ = made.eval()(ImageList(torch.zeros(2, 3, 64, 96), sizes), features)
    ours = made.proposals(output, sizes, per_level=50, total=30, nms=0.7)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.boxes, two)


def test_sure_anchors_keep_their_order() -> None:
    """Logits of 20 to 200 are all 1 in float32 after a sigmoid."""
    made = network()
    objectness = [torch.full((1, 3, 16, 24), -5.0), torch.full((1, 3, 8, 12), -5.0)]
    places = [(0, 0), (0, 8), (0, 16), (8, 0), (8, 8), (8, 16)]
    logits = [60.0, 200.0, 20.0, 100.0, 80.0, 40.0]
    for (row, column), logit in zip(places, logits, strict=True):
        objectness[0][0, 1, row, column] = logit
    assert torch.tensor(logits).sigmoid().unique().numel() == 1
    output = RpnOutput(objectness, [torch.zeros(1, 12, 16, 24), torch.zeros(1, 12, 8, 12)])
    found = made.proposals(output, [(64, 96)], per_level=3, total=2)[0]
    assert found.logits.tolist() == [200, 100]
    torch.testing.assert_close(found.boxes[0], torch.tensor([24.0, 0, 40, 8]))
    assert made.proposals(output, [(64, 96)], per_level=6, total=6)[0].logits.tolist() == sorted(logits, reverse=True)


def test_proposals_lie_in_the_image_without_its_padding_and_have_an_area() -> None:
    output = raw(scale=3.0)
    for found, (height, width) in zip(
        network().proposals(output, [(64, 96), (33, 7)], per_level=200, total=300), [(64, 96), (33, 7)], strict=True
    ):
        assert len(found.boxes) > 0
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([width, height, width, height])).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.logits.diff() <= 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_no_proposals(value: float) -> None:
    output = raw(1)
    output.objectness[0][0, 0, :4] = value
    output.deltas[0][0, 4:8, 4:8] = math.nan
    found = network().proposals(output, [(64, 96)], per_level=1000, total=1000)[0]
    assert len(found.boxes) > 0
    assert found.boxes.isfinite().all()
    assert found.logits.isfinite().all()


def test_an_image_where_nothing_is_left_has_no_proposals() -> None:
    output = raw(1)
    nothing = RpnOutput([torch.full_like(o, -math.inf) for o in output.objectness], output.deltas)
    found = network().proposals(nothing, [(64, 96)], per_level=10, total=10)[0]
    assert found.boxes.shape == (0, 4)
    assert found.logits.shape == (0,)


def test_losses_of_proposals_are_torchvisions_where_its_smooth_l1_is_asked_for() -> None:
    made = network().train()
    targets = [{"boxes": torch.tensor([[10.0, 10, 30, 26], [50, 20, 80, 50]])}, {"boxes": torch.zeros(0, 4)}]
    features = [torch.randn(2, 8, 16, 24), torch.randn(2, 8, 8, 12)]
    images = ImageList(torch.zeros(2, 3, 64, 96), [(64, 96), (50, 70)])
    made._pre_nms_top_n = made._post_nms_top_n = {"training": 10, "testing": 10}
    torch.manual_seed(1)
    _, theirs = made(images, OrderedDict(enumerate(features)), targets)
    torch.manual_seed(1)
    ours = made.losses(made.raw(features), targets, [(64, 96), (50, 70)], smooth_l1_beta=1 / 9)
    torch.testing.assert_close(ours[0], theirs["loss_objectness"])
    torch.testing.assert_close(ours[1], theirs["loss_rpn_box_reg"])


def test_losses_of_proposals_without_objects_are_finite() -> None:
    made = network().train()
    features = [torch.randn(1, 8, 16, 24), torch.randn(1, 8, 8, 12)]
    losses = made.losses(made.raw(features), [{"boxes": torch.zeros(0, 4)}], [(64, 96)])
    sum(losses).backward()  # type: ignore[attr-defined]
    assert float(losses[1].detach()) == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_half_precision_heads_speak_single() -> None:
    made = network()
    with torch.autocast("cpu", torch.bfloat16):
        output = made.raw([torch.randn(1, 8, 16, 24), torch.randn(1, 8, 8, 12)])
    assert {t.dtype for t in (*output.objectness, *output.deltas)} == {torch.float32}


# RoIAlign


def pyramid(images: int = 2, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, channels, 256 // s, 512 // s, generator=generator) for s in (4, 8, 16, 32)]


def test_each_box_is_read_on_its_level_as_torchvision_reads_it() -> None:
    """Sides of 2**k / 8 to either side of the borders between levels."""
    maps = pyramid()
    pool = LevelRoIAlign(output_size=7, strides=(4, 8, 16, 32))
    sides = [3, 50, 111.9, 112, 112.1, 150, 223.9, 224, 224.1, 300, 447.9, 448, 500, 2000]
    boxes = [torch.tensor([[5.5, 7.25, 5.5 + s, 7.25 + s] for s in part]) for part in (sides[:6], sides[6:])]
    found = pool(maps, boxes)
    assert found.shape == (len(sides), 3, 7, 7)
    for index, side in enumerate(sides):
        # Level 4, of stride 16, from 224 pixels on; one more for each doubling.
        level = min(max(4 + math.floor(math.log2(side / 224)), 2), 5) - 2
        image = int(index >= 6)
        box = torch.cat(boxes)[index]
        expected = ops.roi_align(
            maps[level][image : image + 1], [box[None]], 7, 1 / (4, 8, 16, 32)[level], sampling_ratio=0, aligned=True
        )
        torch.testing.assert_close(found[index : index + 1], expected, msg=f"side {side}")


def test_the_level_depends_on_the_area_and_the_canonical_size() -> None:
    maps = [torch.full((1, 1, 512 // s, 512 // s), float(s)) for s in (4, 8, 16, 32)]
    boxes = [torch.tensor([[0.0, 0, 448, 112], [0, 0, 100, 100], [0, 0, 56, 56]])]

    def levels(size: float) -> list[float]:
        return LevelRoIAlign(output_size=1, strides=(4, 8, 16, 32), canonical_size=size)(maps, boxes).flatten().tolist()

    assert levels(224) == [16, 4, 4]
    assert levels(56) == [32, 16, 16]


def test_boxes_of_no_area_are_read_on_the_finest_level_and_finite() -> None:
    maps = pyramid(1)
    boxes = [torch.tensor([[5.0, 5, 5, 5], [9, 9, 5, 5], [600, 600, 700, 700]])]
    found = LevelRoIAlign(output_size=7, strides=(4, 8, 16, 32))(maps, boxes)
    assert found.isfinite().all()
    assert (found[2] == 0).all()


def test_no_boxes_have_no_features() -> None:
    pool = LevelRoIAlign(output_size=7, strides=(4, 8, 16, 32))
    assert pool(pyramid(), [torch.zeros(0, 4)] * 2).shape == (0, 3, 7, 7)


def test_gradients_reach_the_levels_that_were_read() -> None:
    maps = [m.requires_grad_() for m in pyramid(1)]
    boxes = [torch.tensor([[10.0, 10, 40, 40], [10, 10, 240, 240]])]
    LevelRoIAlign(output_size=7, strides=(4, 8, 16, 32))(maps, boxes).sum().backward()
    assert [m.grad is not None and bool((m.grad != 0).any()) for m in maps] == [True, False, True, False]


def test_half_precision_maps_are_read_in_single() -> None:
    maps = pyramid(1)
    boxes = [torch.tensor([[10.0, 10, 40, 40]])]
    pool = LevelRoIAlign(output_size=7, strides=(4, 8, 16, 32))
    found = pool([m.bfloat16() for m in maps], boxes)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pool(maps, boxes), atol=0.02, rtol=0.02)


# detections


def test_detections_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 5, generator=generator) * 2
    corner = torch.rand(30, 5, 2, generator=generator) * 40
    boxes = torch.cat((corner, corner + torch.rand(30, 5, 2, generator=generator) * 40), dim=2)
    found = best_detections(logits, boxes, (50, 60), Detection(score_threshold=0.1, nms=0.3, max_detections=20))
    candidates = []
    for region in range(30):
        scores = logits[region].exp() / logits[region].exp().sum()
        for of_class in range(4):
            left, top, right, bottom = boxes[region, of_class + 1].tolist()
            box = torch.tensor([min(left, 60), min(top, 50), min(right, 60), min(bottom, 50)])
            if scores[of_class + 1] > 0.1:
                candidates.append((float(scores[of_class + 1]), of_class, box))
    kept: list[tuple[float, int, Tensor]] = []
    for score, of_class, box in sorted(candidates, key=lambda c: -c[0]):
        if all(other != of_class or ops.box_iou(box[None], b[None]) <= 0.3 for _, other, b in kept):
            kept.append((score, of_class, box))
    kept = kept[:20]
    assert len(candidates) > len(kept) == 20
    assert found.classes.tolist() == [of_class for _, of_class, _ in kept]
    torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in kept]))
    torch.testing.assert_close(found.boxes, torch.stack([box for _, _, box in kept]))


def test_the_background_is_first_and_never_detected() -> None:
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    found = best_detections(logits, torch.tensor([[[0.0, 0, 9, 9]] * 2, [[20.0, 20, 29, 29]] * 2]), (50, 50))
    assert found.classes.tolist() == [0]
    torch.testing.assert_close(found.boxes, torch.tensor([[20.0, 20, 29, 29]]))


@pytest.mark.parametrize(
    ("logits", "boxes"),
    [
        (torch.zeros(0, 4), torch.zeros(0, 4, 4)),
        (torch.tensor([[9.0, 0, 0, 0]]), torch.zeros(1, 4, 4)),
        (torch.full((2, 4), math.nan), torch.zeros(2, 4, 4)),
    ],
    ids=["no regions", "background", "not a number"],
)
def test_no_detections(logits: Tensor, boxes: Tensor) -> None:
    found = best_detections(logits, boxes, (50, 50))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.classes.shape == (0,)
    assert found.classes.dtype == torch.int64
