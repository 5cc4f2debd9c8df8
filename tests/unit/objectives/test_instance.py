"""The loss of instance segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pointrend.core import LossWeights, Sampling, box_to_image, sample_points
from pointrend.data import InstanceBatch, InstanceTargets
from pointrend.models import InstanceArchitecture, InstancePointRend, instance_pointrend
from pointrend.models.mask_losses import Positives, mask_losses, positives_of
from pointrend.models.mask_targets import MaskTargets
from pointrend.objectives import InstanceLoss
from pointrend.objectives.instance import InstanceLosses, InstanceObjective, sample_targets

SIZE = (64, 96)
Box = tuple[int, int, int, int]


def network(num_classes: int = 3, **settings: object) -> InstancePointRend:
    torch.manual_seed(0)
    numbers: dict[str, object] = {
        "backbone": "tf_efficientnet_lite0",
        "fpn_channels": 8,
        "anchor_sizes": ((8,), (16,), (32,), (48,), (64,)),
        "box_hidden": 16,
        "mask": {"channels": 8, "hidden": 16, "point": {"hidden": 8}},
    }
    return instance_pointrend(num_classes, InstanceArchitecture.model_validate(numbers | settings))


def target(boxes: Sequence[Box], *, classes: int = 3, layers: Sequence[int] | None = None) -> InstanceTargets:
    """Rectangles; `layers` puts each into its layer."""
    places = list(layers) if layers is not None else [0] * len(boxes)
    ids = torch.zeros(max(places, default=-1) + 1, *SIZE, dtype=torch.int32)
    for index, ((left, top, right, bottom), place) in enumerate(zip(boxes, places, strict=True)):
        ids[place, top:bottom, left:right] = index + 1
    count = len(boxes)
    return InstanceTargets(
        boxes=torch.tensor(boxes, dtype=torch.int64).view(count, 4),
        classes=torch.arange(count) % classes,
        ids=ids,
        instance_ids=torch.arange(1, count + 1, dtype=torch.int32),
        layers=torch.tensor(places, dtype=torch.int64),
    )


def batch(*targets: InstanceTargets, valid: tuple[tuple[int, int], ...] | None = None) -> InstanceBatch:
    images = torch.randn(len(targets), 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return InstanceBatch(images, valid or (SIZE,) * len(targets), targets)


def run(objective: InstanceObjective, samples: InstanceBatch, seed: int = 7, draw: int = 1) -> InstanceLosses:
    torch.manual_seed(draw)
    losses: InstanceLosses = objective(samples, seed)
    return losses


FULL = target([(10, 10, 40, 50), (50, 5, 90, 60)])
EMPTY = target([])
HARD = {
    "full": (FULL, FULL),
    "empty": (EMPTY, EMPTY),
    "mixed": (EMPTY, FULL),
    "one pixel": (target([(30, 30, 31, 31)]), target([(0, 0, 1, 1), (95, 63, 96, 64)])),
    "one row": (target([(0, 20, 96, 21), (5, 0, 6, 64)]),),
    "the border": (target([(0, 0, 96, 64), (0, 40, 20, 64), (80, 0, 96, 10)], layers=[0, 1, 1]),),
    "all in one place": (target([(10, 10, 40, 50)] * 4, layers=[0, 1, 2, 3]),),
    "many": (target([(8 * i, 8 * j, 8 * i + 6, 8 * j + 6) for i in range(12) for j in range(8)]),),
}


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_losses_and_gradients_are_finite(case: str, half: bool) -> None:
    made = network(fine_strides=(4, 2))
    objective = InstanceObjective(made, InstanceLoss(sampling=Sampling(50))).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        losses = run(objective, batch(*HARD[case]))
    assert all(value.dtype == torch.float32 for value in losses)
    assert all(value.isfinite() for value in losses)
    losses.total.backward()
    for name, parameter in made.named_parameters():
        # The last convolutions of the backbone lead nowhere only if the architecture says so.
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if case == "empty":
        assert float(losses.coarse) == float(losses.points) == float(losses.boxes) == 0
        assert not any(p.grad is None or p.grad.any() for p in made.mask_head.parameters())
    else:
        assert float(losses.coarse) > 0
        assert any(p.grad is not None and p.grad.any() for p in made.mask_head.point_head.parameters())


def test_the_total_is_the_weighted_sum() -> None:
    made = network()
    losses = run(
        InstanceObjective(made, InstanceLoss(weights=LossWeights(coarse=2.0, points=3.0))).train(), batch(FULL)
    )
    parts = losses.objectness + losses.proposals + losses.classes + losses.boxes + 2 * losses.coarse + 3 * losses.points
    torch.testing.assert_close(losses.total.detach(), parts)
    assert losses.total.requires_grad
    assert not any(part.requires_grad for part in losses[1:])


def test_the_setting_smooth_l1_beta_reaches_both_box_losses() -> None:
    made = network()
    published, smooth = (
        run(InstanceObjective(made, InstanceLoss(smooth_l1_beta=beta)).eval(), batch(FULL, FULL)) for beta in (0.0, 9.0)
    )
    for name in ("proposals", "boxes"):
        assert getattr(smooth, name) < 0.5 * getattr(published, name), name
    for name in ("objectness", "classes", "coarse", "points"):
        assert torch.equal(getattr(smooth, name), getattr(published, name)), name


def test_points_depend_on_the_seed_alone() -> None:
    """Two seeds differ in the points' loss alone; the same seed twice, in nothing."""
    made = network()
    with torch.no_grad():
        made.mask_head.point_head.classifier.weight.normal_()
    objective = InstanceObjective(made).eval()
    one, again, other = (run(objective, batch(FULL, EMPTY), seed=seed) for seed in (7, 7, 8))
    for name, a, b, c in zip(InstanceLosses._fields, one, again, other, strict=True):
        assert torch.equal(a, b), name
        assert torch.equal(a, c) == (name not in ("total", "points", "accuracy")), name


def test_the_seed_leaves_the_global_generator_alone() -> None:
    objective = InstanceObjective(network()).train()
    states = []
    for seed in (1, 2):
        run(objective, batch(FULL), seed=seed)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_what_lies_in_the_padding_does_not_count() -> None:
    """Proposals are clipped to the image without its padding."""
    objective = InstanceObjective(network()).train()
    samples = batch(target([(5, 5, 30, 30)]), valid=((40, 50),))
    losses = run(objective, samples)
    assert all(value.isfinite() for value in losses)


def test_masks_are_trained_on_predicted_boxes() -> None:
    decoded = torch.arange(5 * 3 * 4.0).view(5, 3, 4)
    labels = [torch.tensor([0, 2, 1]), torch.tensor([0, 0])]
    matched = [torch.tensor([9, 4, 5]), torch.tensor([1, 2])]
    found = positives_of(decoded, labels, matched)
    assert torch.equal(found.boxes[0], torch.stack((decoded[1, 2], decoded[2, 1])))
    assert found.boxes[1].shape == (0, 4)
    assert found.classes.tolist() == [1, 0]
    assert [m.tolist() for m in found.matched] == [[4, 5], []]


# targets


def test_targets_are_the_matched_masks_read_bilinearly() -> None:
    """Against masks that were made, one region at a time; instances overlap in layers."""
    targets = (target([(10, 10, 40, 50), (20, 5, 90, 60), (60, 30, 61, 31)], layers=[0, 1, 0]), EMPTY, FULL)
    generator = torch.Generator().manual_seed(0)
    matched = (torch.tensor([2, 1, 0, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([1, 0]))
    boxes = tuple(
        torch.cat((c - 5, c + torch.rand(len(m), 2, generator=generator) * 60), dim=1)
        for m in matched
        for c in [torch.rand(len(m), 2, generator=generator) * 60]
    )
    positives = Positives(boxes, torch.zeros(6, dtype=torch.int64), matched)
    points = torch.rand(6, 40, 2, generator=generator)
    found = sample_targets(targets, positives, points, SIZE)
    region = 0
    for of_image, instances, image_boxes in zip(targets, matched, boxes, strict=True):
        for instance, box in zip(instances.tolist(), image_boxes, strict=True):
            mask = (of_image.ids[of_image.layers[instance]] == of_image.instance_ids[instance]).float()
            places = box_to_image(points[region : region + 1], box[None], SIZE)
            expected = sample_points(mask[None, None], places)[0, :, 0]
            torch.testing.assert_close(found[region], expected, atol=1e-5, rtol=0)
            region += 1
    assert region == 6
    assert 0 < found.mean() < 1


def test_losses_of_a_perfect_and_of_a_wrong_mask_head() -> None:
    """Oracles instead of heads: a right coarse mask has no loss, a wrong one the margin."""
    made = network(num_classes=1)
    made.mask_head.eval()
    box = torch.tensor([[10.0, 10, 38, 38]])
    mask = torch.zeros(1, *SIZE)
    mask[:, 10:24, 10:38] = 1  # the upper half: 3.5 of 7 rows of cells
    positives = Positives((box,), torch.zeros(1, dtype=torch.int64), (torch.zeros(1, dtype=torch.int64),))
    asked: list[int] = []

    def read(points: Tensor) -> Tensor:
        asked.append(points.shape[1])
        return sample_points(mask[None], box_to_image(points, box, SIZE))[..., 0]

    expected = torch.zeros(7, 7)
    expected[:4] = 1

    def coarse(side: int) -> Tensor:
        asked.append(side)
        return expected[None]

    def loss_of(logits: Tensor) -> float:
        made.mask_head.coarse = lambda *_: logits[None, None]  # type: ignore[method-assign, assignment, misc]
        targets = MaskTargets(read, coarse)
        fine = [torch.zeros(1, 8, 16, 24)]
        return float(mask_losses(made.mask_head, fine, positives, SIZE, targets, Sampling(30)).coarse)

    assert loss_of((expected * 2 - 1) * 20) < 1e-4
    assert loss_of((1 - expected * 2) * 20) == pytest.approx(20, rel=1e-3)
    assert asked[:2] == [7, 30]


def test_accuracy_is_the_share_of_right_points() -> None:
    made = network(num_classes=1).mask_head.eval()
    positives = Positives(
        (torch.tensor([[10.0, 10, 38, 38]]),), torch.zeros(1, dtype=torch.int64), (torch.zeros(1, dtype=torch.int64),)
    )
    with torch.no_grad():
        made.point_head.classifier.weight.zero_()
        made.point_head.classifier.bias.fill_(5.0)

    def left(points: Tensor) -> Tensor:
        return (points[..., 0] < 0.25).float()

    fine = [torch.zeros(1, 8, 16, 24)]
    generator = torch.Generator().manual_seed(0)
    targets = MaskTargets(left, lambda side: torch.zeros(1, side, side))
    found = mask_losses(made, fine, positives, SIZE, targets, Sampling(4000, importance=0), generator=generator)
    assert float(found.accuracy) == pytest.approx(0.25, abs=0.03)


def test_no_regions_ask_for_no_targets() -> None:
    made = network(num_classes=1).mask_head
    none = Positives((torch.zeros(0, 4),), torch.zeros(0, dtype=torch.int64), (torch.zeros(0, dtype=torch.int64),))

    def never(asked: object) -> Tensor:
        raise AssertionError(asked)

    found = mask_losses(made, [torch.zeros(1, 8, 16, 24)], none, SIZE, MaskTargets(never, never))
    (found.coarse + found.points).backward()
    assert float(found.coarse.detach()) == 0
    assert all(p.grad is not None and not p.grad.any() for p in made.parameters())


def test_it_learns_one_image() -> None:
    """Forty-five steps on one picture: the masks' loss falls."""
    made = network(num_classes=1)
    objective = InstanceObjective(made, InstanceLoss(sampling=Sampling(50), regions=32)).train()
    image = torch.zeros(1, 3, *SIZE)
    image[:, :, 10:50, 10:40] = 2
    samples = InstanceBatch(image, (SIZE,), (target([(10, 10, 40, 50)], classes=1),))
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    history = []
    for step in range(45):
        losses = run(objective, samples, seed=step, draw=step)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(float(losses.coarse + losses.points))
    assert sum(history[-3:]) < 0.7 * sum(history[:3])
