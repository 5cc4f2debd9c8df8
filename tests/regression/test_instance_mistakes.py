"""What implementations of PointRend for instances got wrong; the numbers are those of docs/design.md, section 4.

Every test has a check, the wrong implementation, and ours: the check must pass ours and fail the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision import ops
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from pointrend.core import (
    MASK_SUBDIVISION,
    Sampling,
    Subdivision,
    box_to_image,
    mask_point_loss,
    regular_grid,
    sample_labels,
    sample_masks,
    sample_points,
    subdivide,
    subdivision_steps,
    training_points,
    uncertainty,
)
from pointrend.data import InstanceBatch, InstanceTargets
from pointrend.models import (
    CoarseMaskHead,
    InstanceArchitecture,
    MaskArchitecture,
    PointArchitecture,
    PointHead,
    PointRendMaskHead,
    instance_pointrend,
)
from pointrend.models.mask_head import sample_in_boxes
from pointrend.models.mask_losses import Positives, mask_losses
from pointrend.models.mask_targets import MaskTargets
from pointrend.objectives import InstanceLoss
from pointrend.objectives.instance import InstanceObjective, sample_targets

SIZE = (64, 96)


def mask_head(num_classes: int = 1, *, channels: int = 4, padding: Any = "zeros") -> PointRendMaskHead:
    torch.manual_seed(0)
    made = PointRendMaskHead(
        coarse_head=CoarseMaskHead(in_channels=channels, num_classes=num_classes, channels=4, hidden=8),
        point_head=PointHead(
            in_channels=channels, num_classes=num_classes, architecture=PointArchitecture(hidden=8, depth=1)
        ),
        padding=padding,
    )
    for layer in (made.coarse_head.classifier, made.point_head.classifier):
        nn.init.normal_(layer.weight)
    return made.eval()


def fine(channels: int = 4) -> Tensor:
    return torch.randn(1, channels, 16, 24, generator=torch.Generator().manual_seed(1))


BOX = torch.tensor([[10.0, 8, 70, 50]])
CLASS = torch.zeros(1, dtype=torch.int64)


# 2


def test_points_of_boxes_read_zeros_beyond_the_image() -> None:
    """2: the published weights saw features and coarse logits fade within half a cell of their maps' borders."""
    ones, corner = torch.ones(1, 1, 16, 24), torch.zeros(1, 1, 2)
    box = torch.tensor([[0.0, 0, 30, 30]])

    def fades(read: Callable[[Tensor], Tensor]) -> bool:
        return bool(torch.allclose(read(corner), torch.tensor(0.25)))

    assert fades(lambda points: sample_in_boxes(ones, [box], points, SIZE))
    assert not fades(lambda points: sample_in_boxes(ones, [box], points, SIZE, padding="border"))
    # Also the coarse logits, at the border of the box, wherever the box is.
    coarse = torch.ones(1, 1, 7, 7)
    assert fades(lambda points: sample_points(coarse, points))

    seen: list[Tensor] = []

    class Spy(PointHead):
        def class_logits(self, fine: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
            seen.append(coarse)
            return coarse

    for padding, expected in (("zeros", 0.25), ("border", 1.0)):
        made = mask_head(padding=padding)
        made.point_head = Spy(in_channels=4, num_classes=1)
        made.point_logits((fine(),), coarse, [BOX], CLASS, corner, SIZE)
        assert seen.pop().item() == expected


# 5


@torch.no_grad()
def test_rendering_starts_on_a_grid_of_28_cells() -> None:
    """5: from 7 cells the first two doublings choose every cell; from an upsampled 28 too few are chosen."""
    made, features = mask_head(), fine()
    coarse = made.coarse(features, [BOX], SIZE)
    asked: list[int] = []

    def predict(points: Tensor) -> Tensor:
        asked.append(points.shape[1])
        return made.point_logits((features,), coarse, [BOX], CLASS, points, SIZE)

    sides = [step.logits.shape[2] for step in subdivision_steps(coarse, predict, Subdivision(784, 5))]
    assert sides == [14, 28, 56, 112, 224]
    assert asked == [14 * 14, 28 * 28, 784, 784, 784]

    everywhere = predict(regular_grid((28, 28))).transpose(1, 2).view(1, 1, 28, 28)

    def is_the_point_heads(start: Tensor) -> bool:
        return bool(torch.allclose(start, everywhere, atol=1e-4))

    stages = made.render((features,), [BOX], CLASS, SIZE)
    assert [stage.shape[2] for stage in stages] == [7, 28, 56, 112, 224]
    assert is_the_point_heads(stages[1])
    upsampled = F.interpolate(coarse, size=(28, 28), mode="bilinear", align_corners=False)
    assert not is_the_point_heads(upsampled)
    # What was sure on the upsampled grid is never asked: other masks at the end.
    wrong = subdivide(upsampled, predict, Subdivision(784, 3))
    assert ((wrong > 0) != (stages[-1] > 0)).float().mean() > 0.01


# 8


def rectangle() -> InstanceTargets:
    ids = torch.zeros(1, *SIZE, dtype=torch.int32)
    ids[0, 8:50, 10:40] = 3
    return InstanceTargets(
        boxes=torch.tensor([[10, 8, 40, 50]]),
        classes=torch.tensor([0]),
        ids=ids,
        instance_ids=torch.tensor([3], dtype=torch.int32),
        layers=torch.tensor([0]),
    )


def test_masks_at_points_are_soft_targets() -> None:
    """8: half way between a pixel of the instance and one beside it the target is 1/2; labels jump from 1 to 0."""
    target = rectangle()
    positives = Positives((BOX,), CLASS, (CLASS,))
    # x = 39.75, 40, 40.25 at y = 20: between the centres of columns 39 and 40.
    points_box = torch.tensor([[[(x - 10) / 60, 12 / 42] for x in (39.75, 40.0, 40.25)]])
    in_image = box_to_image(points_box, BOX, SIZE)

    def is_soft(values: Tensor) -> bool:
        return bool(torch.allclose(values, torch.tensor([[0.75, 0.5, 0.25]]), atol=1e-4))

    assert is_soft(sample_targets((target,), positives, points_box, SIZE))
    assert is_soft(sample_masks(target.ids, target.instance_ids, in_image))
    assert not is_soft(sample_labels((target.ids == 3).long(), in_image).float())
    # torchvision's targets are bins of a grid, so they exist on the grid alone.
    binned = project_masks_on_boxes((target.ids == 3).float(), BOX, CLASS, 28)
    assert binned.shape == (1, 28, 28)

    # The loss takes them as they are: the best logit at 1/2 is 0, not far to either side.
    logits = torch.zeros(1, 1, requires_grad=True)
    mask_point_loss(logits, torch.tensor([[0.5]])).backward()
    assert logits.grad is not None
    assert logits.grad.item() == 0


# 9


def test_points_of_boxes_stay_in_single_precision() -> None:
    """9: bfloat16 has steps of 8 pixels at 2048, and a box's own points become one."""
    width = 2048
    ramp = torch.arange(width, dtype=torch.float32).expand(1, 1, 2, -1)
    boxes = torch.tensor([[1500.0, 0, 1510, 2]])
    points = torch.stack((torch.linspace(0.05, 0.95, 10), torch.full((10,), 0.5)), dim=1)[None]
    expected = 1500 + points[0, :, 0] * 10 - 0.5

    def tells_columns_apart(read: Tensor) -> bool:
        return bool(torch.allclose(read.float().flatten(), expected, atol=0.05))

    with torch.autocast("cpu", torch.bfloat16):
        assert tells_columns_apart(sample_in_boxes(ramp, [boxes], points, (2, width)))
    rounded = box_to_image(points, boxes, (2, width)).bfloat16().float()
    assert not tells_columns_apart(sample_points(ramp, rounded))


def test_rendering_writes_half_precision_answers_into_single_precision_masks() -> None:
    """9: a point head under autocast answers in bfloat16."""
    made, features = mask_head(), fine()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        answer = made.point_logits(
            (features,), made.coarse(features, [BOX], SIZE), [BOX], CLASS, regular_grid((4, 4)), SIZE
        )
        stages = made.render((features,), [BOX], CLASS, SIZE, replace(MASK_SUBDIVISION, num_points=50, steps=1))
    assert answer.dtype == torch.bfloat16
    assert {stage.dtype for stage in stages} == {torch.float32}
    with pytest.raises(RuntimeError):
        torch.zeros(1, 1, 16).scatter(2, torch.arange(16).view(1, 1, -1), answer.transpose(1, 2))


# 11


def empty_target() -> InstanceTargets:
    none = torch.zeros(0, dtype=torch.int64)
    return InstanceTargets(
        torch.zeros(0, 4, dtype=torch.int64), none, torch.zeros(0, *SIZE, dtype=torch.int32), none.int(), none
    )


@pytest.mark.parametrize("full", [(False, False), (False, True), (True, False)], ids=str)
def test_nothing_to_see_is_trained_through(full: tuple[bool, bool]) -> None:
    """11: a mean over no regions is NaN; a loss without the heads leaves processes waiting for gradients."""
    torch.manual_seed(0)
    network = instance_pointrend(
        1,
        InstanceArchitecture(
            backbone="tf_efficientnet_lite0",
            fpn_channels=8,
            anchor_sizes=((8,), (16,), (32,), (48,), (64,)),
            box_hidden=16,
            mask=MaskArchitecture(channels=8, hidden=16, point=PointArchitecture(hidden=8)),
        ),
    )
    batch = InstanceBatch(
        torch.randn(2, 3, *SIZE), (SIZE, SIZE), tuple(rectangle() if shown else empty_target() for shown in full)
    )
    losses = InstanceObjective(network, InstanceLoss(sampling=Sampling(20))).train()(batch, 0)
    losses.total.backward()

    def is_trained_through(loss: Tensor, parameters: list[nn.Parameter]) -> bool:
        return bool(loss.isfinite()) and all(p.grad is not None and p.grad.isfinite().all() for p in parameters)

    assert is_trained_through(losses.total, list(network.parameters()))

    no_logits = torch.zeros(0, 20, requires_grad=True)
    wrong = F.binary_cross_entropy_with_logits(no_logits, torch.zeros(0, 20))
    assert not is_trained_through(wrong, [])
    head = mask_head()
    torch.zeros((), requires_grad=True).backward()
    assert not is_trained_through(torch.zeros(()), list(head.parameters()))
    none = Positives((torch.zeros(0, 4),), CLASS[:0], (CLASS[:0],))
    ours = mask_losses(
        head, (fine(),), none, SIZE, MaskTargets(lambda points: points[..., 0], lambda side: torch.zeros(0, side, side))
    )
    (ours.coarse + ours.points).backward()
    assert is_trained_through(ours.coarse, list(head.parameters()))


@torch.no_grad()
def test_nothing_found_has_no_masks() -> None:
    """11: no detections, and some in one image alone."""
    made = mask_head()
    none, two = torch.zeros(0, 4), fine().expand(2, -1, -1, -1)
    for stage in made.render((two,), [none, none], CLASS[:0], SIZE):
        assert stage.shape[0] == 0
    alone = made.render((fine(),), [BOX], CLASS, SIZE)
    for boxes in ([none, BOX], [BOX, none]):
        for one, other in zip(made.render((two,), boxes, CLASS, SIZE), alone, strict=True):
            torch.testing.assert_close(one, other)
    points = training_points(torch.zeros(0, 1, 7, 7), Sampling(20))
    assert points.shape == (0, 20, 2)


# 12


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.bytes = max([self.bytes, *sizes])
        return made


@torch.no_grad()
def test_rendering_carries_the_predicted_class_alone() -> None:
    """12: with 40 classes the other 39 take 40 times the memory and change nothing."""
    classes = torch.tensor([7, 31, 0])
    boxes = [torch.tensor([[10.0, 8, 70, 50], [0, 0, 30, 60], [40, 20, 90, 64]])]
    made, features = mask_head(40), fine()

    def all_classes() -> Tensor:
        coarse = made.coarse(features, boxes, SIZE)
        own = classes[:, None, None].expand(-1, -1, 1)

        def predict(points: Tensor) -> Tensor:
            return made.point_head(sample_in_boxes(features, boxes, points, SIZE), sample_points(coarse, points))

        def of_own(logits: Tensor, *, dim: int) -> Tensor:
            return uncertainty(logits[torch.arange(3), classes][:, None], dim=dim)

        assert own.shape == (3, 1, 1)
        start = predict(regular_grid((28, 28), batch=3)).transpose(1, 2).unflatten(2, (28, 28))
        rendered = subdivide(start, predict, Subdivision(784, 3), measure=of_own)
        return rendered[torch.arange(3), classes][:, None]

    def is_lean(render: Callable[[], Tensor]) -> tuple[bool, Tensor]:
        with Largest() as seen:
            masks = render()
        return seen.bytes < 10 * 4 * 3 * 224 * 224, masks

    lean, ours = is_lean(lambda: made.render((features,), boxes, classes, SIZE)[-1])
    wasteful, same = is_lean(all_classes)
    assert lean
    assert not wasteful
    # Ties and rounding may choose another point; the masks are the same.
    assert ((ours - same).abs() < 1e-3).float().mean() > 0.999


# 14


def test_the_coarse_head_reads_points_and_not_regions() -> None:
    """14: RoIAlign repeats the border where points fade, and agrees further than half a cell from it."""
    given: list[Tensor] = []

    class Spy(nn.Module):
        side, num_classes = 7, 1

        def forward(self, features: Tensor) -> Tensor:
            given.append(features)
            return features[:, :1, ::2, ::2]

    made = mask_head()
    made.coarse_head = Spy()  # type: ignore[assignment]

    def by_points(boxes: Tensor) -> Tensor:
        made.coarse(torch.ones(1, 1, 16, 24) * ramp, [boxes], SIZE)
        return given.pop()

    def by_regions(boxes: Tensor) -> Tensor:
        return ops.roi_align(torch.ones(1, 1, 16, 24) * ramp, [boxes], 14, 1 / 4, sampling_ratio=1, aligned=True)

    def fades(read: Callable[[Tensor], Tensor], box: tuple[float, ...]) -> bool:
        return bool(read(torch.tensor([box]))[0, 0].min() < 0.9)

    ramp = torch.ones(())
    for box in ((0.0, 10, 14, 24), (10.0, 0, 24, 14), (82.0, 30, 96, 44), (30.0, 50, 44, 64)):
        assert fades(by_points, box)
        assert not fades(by_regions, box)
    ramp = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))
    inside = torch.tensor([[2.0, 2, 30, 40], [20.5, 13.25, 94, 62], [50, 30, 53, 33]])
    torch.testing.assert_close(by_points(inside), by_regions(inside), atol=1e-4, rtol=1e-4)
    touching = torch.tensor([[0.0, 0, 14, 14]])
    assert not torch.allclose(by_points(touching), by_regions(touching), atol=1e-2)


def test_points_are_relative_to_the_padded_input() -> None:
    """15, for boxes: an image of 60 x 90 padded to 64 x 96 has maps of the padded size."""
    edge = torch.arange(24.0).expand(1, 1, 16, -1)  # the value is the column of stride 4

    def is_in_place(size: tuple[int, int]) -> bool:
        read = sample_in_boxes(edge, [torch.tensor([[40.0, 20, 48, 28]])], torch.full((1, 1, 2), 0.5), size)
        return bool(torch.allclose(read.flatten(), torch.tensor([44 / 4 - 0.5])))

    assert is_in_place((64, 96))
    assert not is_in_place((60, 90))
