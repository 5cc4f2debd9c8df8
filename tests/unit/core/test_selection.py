"""Training points and the most uncertain points of a grid."""

from __future__ import annotations

import pytest
import torch

from pointrend.core import Sampling, most_uncertain_points, sample_points, training_points, uncertainty


def edge(width: int = 32) -> torch.Tensor:
    """A binary map (1, 1, width, width) with its decision boundary down the middle."""
    return torch.linspace(-8, 8, width).expand(1, 1, width, width)


@pytest.mark.parametrize("channels", [1, 4])
def test_training_points_are_points_of_the_unit_square(channels: int) -> None:
    points = training_points(torch.randn(2, channels, 7, 5), Sampling(33))
    assert points.shape == (2, 33, 2)
    assert points.dtype == torch.float32
    assert points.min() >= 0
    assert points.max() < 1


def test_important_points_crowd_at_the_boundary_and_the_rest_does_not() -> None:
    generator = torch.Generator().manual_seed(1)
    points = training_points(edge(), Sampling(400, oversample=10, importance=0.5), generator=generator)
    distance = (points[0, :, 0] - 0.5).abs()
    # "zeros" padding makes the border uncertain too: take the rows and columns well inside.
    inside = ((points[0] > 0.05) & (points[0] < 0.95)).all(1)
    assert distance[:200][inside[:200]].max() < 0.1
    assert 0.2 < distance[200:].mean() < 0.3  # uniform: 0.25


def test_zero_padding_pulls_points_to_the_border_and_border_padding_does_not() -> None:
    logits = torch.full((1, 1, 8, 8), 4.0)
    logits[..., 3:5, 3:5] = 1.0

    def share_at_border(padding: str) -> float:
        points = training_points(
            logits,
            Sampling(200, oversample=8, importance=1),
            generator=torch.Generator().manual_seed(2),
            padding=padding,
        )
        return ((points < 1 / 16) | (points > 15 / 16)).any(2).float().mean().item()

    assert share_at_border("zeros") > 0.3
    assert share_at_border("border") == 0


def test_the_measure_can_be_another_one() -> None:
    """Here the most certain points: all far from the boundary."""
    points = training_points(
        edge(),
        Sampling(50, oversample=4, importance=1),
        generator=torch.Generator().manual_seed(3),
        padding="border",
        measure=lambda logits, dim: -uncertainty(logits, dim=dim),
    )
    assert (points[..., 0] - 0.5).abs().min() > 0.25


def test_no_gradient_flows_through_the_choice() -> None:
    assert not training_points(torch.randn(1, 3, 4, 4, requires_grad=True), Sampling(4)).requires_grad


def test_half_precision_logits_and_autocast() -> None:
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()

    def choose() -> torch.Tensor:
        return training_points(logits, Sampling(40), generator=torch.Generator().manual_seed(5))

    expected = choose()
    with torch.autocast("cpu", torch.bfloat16):
        chosen = choose()
    assert chosen.dtype == torch.float32
    assert torch.equal(chosen, expected)


@pytest.mark.parametrize(
    "numbers",
    [
        {"num_points": 0},
        {"num_points": 8, "oversample": 0.5},
        {"num_points": 8, "importance": 1.1},
        {"num_points": 8, "importance": -0.1},
        {"num_points": 8, "importance": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"oversample of 1 to 1000 and importance in \[0, 1\]"):
        training_points(torch.zeros(1, 1, 2, 2), Sampling(**numbers))  # type: ignore[arg-type]


def test_the_most_uncertain_pixels_and_their_centres() -> None:
    values = torch.tensor([[[-5.0, -1.0, -3.0], [-4.0, -9.0, -2.0]]])
    indices, points = most_uncertain_points(values, 2)
    assert indices.tolist() == [[1, 5]]
    torch.testing.assert_close(points, torch.tensor([[[0.5, 0.25], [5 / 6, 0.75]]]))
    read = sample_points(values.unsqueeze(1), points).squeeze(2)
    torch.testing.assert_close(read, torch.tensor([[-1.0, -2.0]]))


def test_a_small_grid_is_taken_whole() -> None:
    indices, points = most_uncertain_points(torch.randn(2, 3, 4), 1000)
    assert points.shape == (2, 12, 2)
    assert indices.sort(1).values.tolist() == [list(range(12))] * 2


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="expected num_points >= 1, got 0"):
        most_uncertain_points(torch.zeros(1, 2, 2), 0)


def test_a_regular_grid_has_the_centres_of_its_pixels() -> None:
    logits = torch.randn(2, 3, 8, 8)
    points = training_points(logits, Sampling(num_points=16, regular=True))
    assert points.shape == (2, 16, 2)
    assert torch.equal(points[0], points[1])
    assert points[0, 0].tolist() == [0.125, 0.125]
    assert points[0, 1].tolist() == [0.375, 0.125]
    assert points[0, -1].tolist() == [0.875, 0.875]
    with pytest.raises(ValueError, match="a regular grid needs a square number of points, such as 1024, got 2048"):
        Sampling(num_points=2048, regular=True)
