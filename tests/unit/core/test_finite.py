"""Logits that are not finite end a rendering in one line, wherever they come up; they have no labels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pointrend.core import Subdivision, check_finite, render_labels, subdivide

Render = Callable[..., Tensor]
BAD = [torch.nan, torch.inf, -torch.inf]


@pytest.mark.parametrize("render", [subdivide, render_labels])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("num_points", [5, 10_000])
def test_rendering_refuses_them(render: Render, classes: int, bad: float, num_points: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, classes, 16, 16)
    damaged = logits.clone()
    damaged[1, -1, 3, 5] = bad

    def predict(points: Tensor) -> Tensor:
        return torch.zeros(*points.shape[:2], classes)

    def worse(points: Tensor) -> Tensor:
        found = predict(points)
        if points.shape[1] > 4:
            found[1, 3, 0] = bad
        return found

    subdivision = Subdivision(num_points, 2)
    with pytest.raises(ValueError, match=r"^coarse logits must be finite, got (nan|-?inf)") as caught:
        render(damaged, predict, subdivision)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^logits at points must be finite, got (nan|-?inf)"):
        render(logits, worse, subdivision)
    assert torch.isfinite(render(logits, predict, subdivision)).all()


def test_rendering_without_steps_refuses_them_too() -> None:
    with pytest.raises(ValueError, match="must be finite, got nan"):
        render_labels(torch.full((1, 2, 4, 4), torch.nan), lambda points: points, Subdivision(5, 0))


def test_what_is_finite_is_returned() -> None:
    for logits in (torch.zeros(0, 3), torch.tensor([3e38, -3e38]), torch.tensor([6e4], dtype=torch.float16)):
        assert check_finite(logits) is logits
