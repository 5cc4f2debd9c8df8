"""The subdivision loop, step by step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import Subdivision, subdivide, subdivision_steps, uncertainty, write_points


def disc(points: Tensor) -> Tensor:
    """One logit, positive inside of a disc: what a perfect point head would say."""
    return 20 * (0.3 - (points - 0.5).norm(dim=2, keepdim=True))


def coarse_disc(size: int) -> Tensor:
    centers = (torch.arange(size) + 0.5) / size
    points = torch.stack(torch.meshgrid(centers, centers, indexing="xy"), dim=-1).view(1, -1, 2)
    return disc(points).view(1, 1, size, size)


def test_every_step_doubles_the_grid() -> None:
    steps = list(subdivision_steps(torch.randn(2, 3, 5, 7), lambda p: torch.zeros(2, p.shape[1], 3), Subdivision(4, 3)))
    assert [tuple(s.logits.shape) for s in steps] == [(2, 3, 10, 14), (2, 3, 20, 28), (2, 3, 40, 56)]
    assert [tuple(s.uncertainty.shape) for s in steps] == [(2, 10, 14), (2, 20, 28), (2, 40, 56)]
    assert all(s.points.shape == (2, 4, 2) for s in steps)


def test_a_step_reports_the_uncertainty_before_it_predicts() -> None:
    coarse = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    (step,) = subdivision_steps(coarse, lambda p: torch.full((1, p.shape[1], 3), 9.0), Subdivision(5, 1))
    upsampled = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.equal(step.uncertainty, uncertainty(upsampled, dim=1))


def test_a_disc_from_a_coarse_grid_comes_out_as_if_rendered_densely() -> None:
    """The paper's claim: predictions near the boundary alone suffice. A quarter of the pixels is asked for here."""
    rendered = subdivide(coarse_disc(16), disc, Subdivision(1024, 2))
    upsampled = F.interpolate(coarse_disc(16), scale_factor=4, mode="bilinear", align_corners=False)
    dense = coarse_disc(64) > 0
    assert torch.equal(rendered > 0, dense)
    assert not torch.equal(upsampled > 0, dense)


def test_no_steps_give_the_start() -> None:
    coarse = torch.randn(1, 2, 3, 3)
    assert torch.equal(subdivide(coarse, disc, Subdivision(4, 0)), coarse)


def test_the_measure_can_be_another_one() -> None:
    coarse = torch.zeros(1, 2, 2, 2)

    def top_left(logits: Tensor, *, dim: int) -> Tensor:
        height, width = logits.shape[2:]
        return -torch.arange(height * width, dtype=torch.float32).view(1, height, width)

    (step,) = subdivision_steps(coarse, lambda p: torch.ones(1, p.shape[1], 2), Subdivision(3, 1), measure=top_left)
    assert step.logits[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rendered_in_float32(dtype: torch.dtype) -> None:
    coarse = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)

    def half(points: Tensor) -> Tensor:
        return torch.ones(1, points.shape[1], 3, dtype=dtype)

    rendered = subdivide(coarse, half, Subdivision(6, 2))
    assert rendered.dtype == torch.float32
    assert torch.equal(rendered, subdivide(coarse.float(), lambda p: half(p).float(), Subdivision(6, 2)))


def test_float64_stays() -> None:
    coarse = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    assert subdivide(coarse, lambda p: disc(p).double(), Subdivision(4, 1)).dtype == torch.float64


def test_gradients_reach_both_the_start_and_the_point_predictions() -> None:
    """With a fixed choice of points rendering is linear in both."""
    coarse = torch.randn(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    predicted = torch.randn(1, 4, 1, dtype=torch.float64, requires_grad=True)

    def fixed(logits: Tensor, *, dim: int) -> Tensor:
        return torch.arange(logits[0, 0].numel(), dtype=torch.float64).view(1, *logits.shape[2:])

    assert torch.autograd.gradcheck(
        lambda c, p: subdivide(c, lambda _: p, Subdivision(4, 2), measure=fixed), (coarse, predicted)
    )


def test_written_points_leave_the_original_alone() -> None:
    logits = torch.zeros(2, 3, 2, 2)
    written = write_points(logits, torch.tensor([[0], [3]]), torch.tensor([[[1.0, 2, 3]], [[4.0, 5, 6]]]))
    assert logits.count_nonzero() == 0
    assert written[0, :, 0, 0].tolist() == [1, 2, 3]
    assert written[1, :, 1, 1].tolist() == [4, 5, 6]
    assert written.count_nonzero() == 6


def test_a_step_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="expected num_points of 1 to 100000000, got 0"):
        subdivide(torch.zeros(1, 1, 2, 2), disc, Subdivision(0, 1))
