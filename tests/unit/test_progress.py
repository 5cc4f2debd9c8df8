"""What a training says of itself while it runs."""

from __future__ import annotations

import io
import re

import pytest

import pointrend.progress
from pointrend.progress import TrainingProgress, duration, speed


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (44.6, "45 s"),
        (59.7, "1 min"),
        (60, "1 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (86399, "1 d 00 h"),
        (273600, "3 d 04 h"),
    ],
)
def test_times_have_their_two_largest_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(12.34, "12.3 images/s"), (1.0, "1.0 images/s"), (0.5, "2.0 s/image"), (0.0123, "81.3 s/image"), (0.0, "-")],
)
def test_slow_trainings_have_seconds_an_image(rate: float, expected: str) -> None:
    assert speed(rate) == expected


VALUES = {"loss": 1.23456, "point_accuracy": 0.875, "lr": 0.01, "images_per_second": 0.04}


def shown(
    monkeypatch: pytest.MonkeyPatch,
    *,
    terminal: bool,
    total: int = 100,
    first: int = 20,
    now: tuple[int, float] = (30, 50),
) -> str:
    """What is printed when an iteration is done, so many seconds after the start at iteration `first`."""
    clock = [1000.0]
    monkeypatch.setattr(pointrend.progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    real = pointrend.progress.Console
    monkeypatch.setattr(
        pointrend.progress,
        "Console",
        lambda **options: real(file=written, force_terminal=terminal, width=150, quiet=options["quiet"]),
    )
    with TrainingProgress(total, first, line_every=10) as progress:
        clock[0] += now[1]
        progress.advance(now[0])
        progress.update(now[0], VALUES)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
def test_loss_and_time_left(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """10 iterations in 50 seconds, 70 to go; those before a resumption say nothing of the speed."""
    text = shown(monkeypatch, terminal=terminal)
    assert "30/100" in text
    assert "loss 1.235  point acc 87.5 %  lr 1.00e-02  25.0 s/image" in text
    assert "6 min left" in text


def test_the_time_left_is_not_lost_between_slow_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration of 5 minutes: more than the half minute that rich's own estimate remembers."""
    text = shown(monkeypatch, terminal=True, first=0, total=11, now=(1, 300))
    assert "50 min left" in text
