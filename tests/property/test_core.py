"""What holds for any map, any points and any size: the core against simple references."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core import (
    Sampling,
    Subdivision,
    labels_of,
    most_uncertain_points,
    point_cross_entropy,
    regular_grid,
    resized_labels,
    sample_labels,
    sample_points,
    semantic_cross_entropy,
    subdivide,
    subdivision_steps,
    training_points,
    uncertainty,
    write_points,
)

SIDES = st.integers(1, 13)
SIZES = st.tuples(SIDES, SIDES)
SEEDS = st.integers(0, 2**31)
PADDINGS = st.sampled_from(["zeros", "border"])
examples = settings(max_examples=40)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def eighths(seed: int, *shape: int) -> Tensor:
    """Multiples of 1/8 of a few values: doubling a grid of them is exact, and ties are frequent."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)) / 8


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def head(points: Tensor, classes: int = 3) -> Tensor:
    """A point predictor that depends on nothing but the place."""
    frequencies = torch.arange(1, classes + 1) * 5.0
    return torch.sin(points[..., :1] * frequencies + 3 * points[..., 1:])


# Sampling


@given(SIZES, SEEDS, PADDINGS)
@examples
def test_sampling_at_pixel_centres_returns_the_pixels(size: tuple[int, int], seed: int, padding: str) -> None:
    features = normal(seed, 2, 3, *size)
    sampled = sample_points(features, regular_grid(size, batch=2), padding=padding)  # type: ignore[arg-type]
    torch.testing.assert_close(sampled, features.flatten(2).transpose(1, 2), atol=2e-5, rtol=0)


@given(SIZES, SEEDS, PADDINGS)
@examples
def test_a_linear_ramp_returns_its_coordinates(size: tuple[int, int], seed: int, padding: str) -> None:
    """Inside the outermost pixel centres, where nothing outside of the map is read."""
    height, width = size
    ramp = regular_grid(size).transpose(1, 2).view(1, 2, height, width)
    half = torch.tensor([0.5 / width, 0.5 / height])
    points = half + uniform(seed, 1, 20, 2) * (1 - 2 * half)
    sampled = sample_points(ramp, points, padding=padding)  # type: ignore[arg-type]
    torch.testing.assert_close(sampled, points, atol=1e-5, rtol=0)


@given(SIZES, SEEDS)
@examples
def test_sampling_agrees_with_four_neighbours_written_out(size: tuple[int, int], seed: int) -> None:
    height, width = size
    features, points = normal(seed, 1, 2, height, width), uniform(seed + 1, 1, 10, 2) * 1.2 - 0.1
    expected = torch.zeros(1, 10, 2)
    for p, (px, py) in enumerate(points[0].double().tolist()):
        x, y = px * width - 0.5, py * height - 0.5
        for row in range(height):
            for column in range(width):
                weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
                expected[0, p] += weight * features[0, :, row, column]
    torch.testing.assert_close(sample_points(features, points), expected, atol=2e-5, rtol=1e-5)


@given(SIZES, SEEDS)
@examples
def test_labels_agree_with_grid_sample_nearest_off_ties(size: tuple[int, int], seed: int) -> None:
    height, width = size
    points = uniform(seed, 2, 30, 2)
    scaled = points.double() * torch.tensor([width, height])
    off_tie = ((scaled - scaled.round()).abs() > 1e-4).all(2)
    labels = torch.randint(0, 256, (2, height, width), generator=torch.Generator().manual_seed(seed))
    nearest = sample_points(labels.float().unsqueeze(1), points, mode="nearest").squeeze(2)
    assert torch.equal(sample_labels(labels, points)[off_tie], nearest.long()[off_tie])


# Uncertainty and selection


@given(st.integers(2, 9), SIZES, SEEDS, st.booleans())
@examples
def test_uncertainty_is_the_gap_of_topk(classes: int, size: tuple[int, int], seed: int, ties: bool) -> None:
    logits = (eighths if ties else normal)(seed, 2, classes, *size)
    best, second = logits.topk(2, dim=1).values.unbind(1)
    assert torch.equal(uncertainty(logits, dim=1), second - best)


@given(SIZES, st.integers(1, 200), SEEDS, st.booleans())
@examples
def test_the_chosen_are_a_valid_top_n_up_to_ties(size: tuple[int, int], count: int, seed: int, ties: bool) -> None:
    values = (eighths if ties else normal)(seed, 2, *size)
    indices, points = most_uncertain_points(values, count)
    expected = values.flatten(1).sort(1, descending=True).values[:, :count]
    assert torch.equal(values.flatten(1).gather(1, indices).sort(1, descending=True).values, expected)
    assert all(len(set(item)) == min(count, size[0] * size[1]) for item in indices.tolist())
    assert torch.equal(points, torch.stack([regular_grid(size)[0][item] for item in indices]))


@given(
    st.integers(1, 3),
    SIZES,
    st.integers(1, 60),
    st.floats(1, 6),
    st.floats(0, 1),
    st.integers(1, 4),
    SEEDS,
    PADDINGS,
)
@examples
def test_training_points_respect_count_k_and_beta(
    batch: int,
    size: tuple[int, int],
    count: int,
    oversample: float,
    importance: float,
    classes: int,
    seed: int,
    padding: str,
) -> None:
    """Against the paper's three steps written out, with the same random numbers."""
    logits = normal(seed, batch, classes, *size)
    sampling = Sampling(count, oversample=oversample, importance=importance)

    def choose() -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return training_points(logits, sampling, generator=generator, padding=padding)  # type: ignore[arg-type]

    points = choose()
    assert points.shape == (batch, count, 2)
    assert torch.equal(points, choose())

    generator = torch.Generator().manual_seed(seed)
    candidates = torch.rand(batch, int(oversample * count), 2, generator=generator)
    rest = torch.rand(batch, count - int(importance * count), 2, generator=generator)
    kept = int(importance * count)
    for item in range(batch):
        sampled = sample_points(logits[item : item + 1], candidates[item : item + 1], padding=padding)  # type: ignore[arg-type]
        order = uncertainty(sampled, dim=2)[0].argsort(descending=True)[:kept]
        wanted = {tuple(p) for p in candidates[item, order].tolist()}
        assert {tuple(p) for p in points[item, :kept].tolist()} == wanted
    assert torch.equal(points[:, kept:], rest)


@given(SEEDS)
@settings(max_examples=10)
def test_without_importance_training_points_are_uniform_whatever_the_logits(seed: int) -> None:
    logits = torch.linspace(-8, 8, 16).expand(1, 1, 16, 16)
    generator = torch.Generator().manual_seed(seed)
    points = training_points(logits, Sampling(4000, oversample=1, importance=0), generator=generator)
    counts = torch.histc(points[0, :, 0], bins=8, min=0, max=1)
    # 500 a bin with a standard deviation of 21: six of them.
    assert (counts - 500).abs().max() < 126
    other = training_points(
        torch.zeros(1, 1, 3, 3),
        Sampling(4000, oversample=1, importance=0),
        generator=torch.Generator().manual_seed(seed),
    )
    assert torch.equal(points, other)


# Subdivision


@given(SIZES, st.integers(1, 700), st.integers(0, 3), st.integers(1, 4), SEEDS)
@examples
def test_only_selected_points_change_in_a_step(
    size: tuple[int, int], count: int, steps: int, classes: int, seed: int
) -> None:
    before = normal(seed, 2, classes, *size)
    made = 0
    for step in subdivision_steps(before, lambda p: head(p, classes), Subdivision(count, steps)):
        upsampled = F.interpolate(before, scale_factor=2, mode="bilinear", align_corners=False)
        height, width = upsampled.shape[2:]
        assert step.logits.shape == upsampled.shape
        chosen = torch.zeros(2, height, width, dtype=torch.bool)
        for item in range(2):
            columns = (step.points[item, :, 0] * width).long()
            rows = (step.points[item, :, 1] * height).long()
            chosen[item, rows, columns] = True
        assert chosen.flatten(1).sum(1).tolist() == [min(count, height * width)] * 2
        assert torch.equal(step.logits.permute(0, 2, 3, 1)[~chosen], upsampled.permute(0, 2, 3, 1)[~chosen])
        read = sample_points(step.logits, step.points)
        torch.testing.assert_close(read, head(step.points, classes), atol=1e-4, rtol=0)
        before, made = step.logits, made + 1
    assert made == steps


@given(SIZES, st.integers(1, 3), st.integers(1, 4), SEEDS)
@examples
def test_a_full_budget_is_dense_evaluation(size: tuple[int, int], steps: int, classes: int, seed: int) -> None:
    height, width = size[0] * 2**steps, size[1] * 2**steps
    rendered = subdivide(
        normal(seed, 2, classes, *size), lambda p: head(p, classes), Subdivision(height * width, steps)
    )
    dense = head(regular_grid((height, width), batch=2), classes)
    torch.testing.assert_close(rendered, dense.transpose(1, 2).view(2, classes, height, width), atol=1e-6, rtol=0)


@given(SIZES, st.integers(1, 50), st.integers(1, 3), SEEDS, st.integers(0, 2))
@examples
def test_batch_items_do_not_influence_each_other(
    size: tuple[int, int], count: int, steps: int, seed: int, item: int
) -> None:
    coarse = normal(seed, 3, 4, *size)
    fine = normal(seed + 1, 3, 4, 9, 9)
    batch = subdivide(coarse, lambda p: sample_points(fine, p), Subdivision(count, steps))
    one = slice(item, item + 1)
    alone = subdivide(coarse[one], lambda p: sample_points(fine[one], p), Subdivision(count, steps))
    torch.testing.assert_close(batch[one], alone, atol=1e-5, rtol=0)


@given(SIZES, SEEDS)
@examples
def test_more_points_never_leave_a_map_further_from_dense(size: tuple[int, int], seed: int) -> None:
    """One step: each additional point replaces an interpolated value by the predictor's own."""
    coarse = normal(seed, 1, 3, *size)
    dense = head(regular_grid((2 * size[0], 2 * size[1]))).transpose(1, 2).view(1, 3, 2 * size[0], 2 * size[1])
    distances = [
        (subdivide(coarse, head, Subdivision(count, 1)) - dense).square().sum().item() for count in (1, 4, 16, 64, 1000)
    ]
    assert all(a >= b - 1e-5 for a, b in pairwise(distances))
    assert distances[-1] < 1e-6


@given(SIZES, SEEDS)
@examples
def test_writing_points_agrees_with_a_loop(size: tuple[int, int], seed: int) -> None:
    height, width = size
    logits = normal(seed, 2, 3, height, width)
    count = max(1, height * width // 2)
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(height * width, generator=generator)[:count] for _ in range(2)])
    values = normal(seed + 1, 2, count, 3)
    expected = logits.clone()
    for item in range(2):
        for position, index in enumerate(indices[item].tolist()):
            expected[item, :, index // width, index % width] = values[item, position]
    assert torch.equal(write_points(logits, indices, values), expected)


# Labels


@given(SIZES, SIZES, st.integers(1, 6), SEEDS, st.booleans(), st.booleans())
@settings(max_examples=80)
def test_resized_labels_are_the_labels_of_resized_logits(
    size: tuple[int, int], target: tuple[int, int], classes: int, seed: int, ties: bool, double: bool
) -> None:
    logits = (eighths if ties else normal)(seed, 2, classes, *size)
    target = (2 * size[0], 2 * size[1]) if double else target
    whole = F.interpolate(logits, size=target, mode="bilinear", align_corners=False)
    assert torch.equal(resized_labels(logits, target), labels_of(whole, dim=1))


# Losses


@st.composite
def labelled(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits (N, C, ...), labels with some ignored, and class weights or None."""
    classes, batch, seed = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(SEEDS)
    shape = draw(st.sampled_from([(7,), (3, 4), (1, 1)]))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(max(2, classes), (batch, *shape), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < draw(st.sampled_from([0.0, 0.4, 0.9]))] = 255
    weights = torch.rand(max(2, classes), generator=generator) + 0.1 if draw(st.booleans()) else None
    return normal(seed, batch, classes, *shape) * 4, labels, weights


@given(labelled())
@settings(max_examples=80)
def test_cross_entropy_agrees_with_torch(case: tuple[Tensor, Tensor, Tensor | None]) -> None:
    logits, labels, weights = case
    counted = labels != 255
    assume(bool(counted.any()))
    loss = semantic_cross_entropy(logits, labels, class_weights=weights)
    if logits.shape[1] > 1:
        expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=255)
    else:  # two logits, the first of them zero
        both = torch.cat((torch.zeros_like(logits), logits), dim=1)
        expected = F.cross_entropy(both, labels, weight=weights, ignore_index=255)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    flat = logits.flatten(2).transpose(1, 2)
    torch.testing.assert_close(point_cross_entropy(flat, labels.flatten(1), class_weights=weights), loss)


@given(labelled())
@examples
def test_ignored_labels_alone_give_zero_with_a_zero_gradient(case: tuple[Tensor, Tensor, Tensor | None]) -> None:
    logits, labels, weights = case
    logits.requires_grad_()
    loss = semantic_cross_entropy(logits, torch.full_like(labels, 255), class_weights=weights)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@given(labelled(), SEEDS)
@examples
def test_the_loss_does_not_see_logits_at_ignored_labels(case: tuple[Tensor, Tensor, Tensor | None], seed: int) -> None:
    logits, labels, weights = case
    ignored = (labels == 255).unsqueeze(1).expand_as(logits)
    noise = normal(seed, *logits.shape) * 100
    loss = semantic_cross_entropy(logits, labels, class_weights=weights)
    assert torch.equal(semantic_cross_entropy(torch.where(ignored, noise, logits), labels, class_weights=weights), loss)
