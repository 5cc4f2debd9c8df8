"""Hard pixels count, easy ones do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pointrend.objectives.mining import HardPixels, hard_labels

PROBABILITIES = torch.tensor([0.9, 0.1, 0.6, 0.8, 0.65, 0.3])
LABELS = torch.tensor([[[0, 0, 255], [0, 1, 0]]])


def two_classes(probabilities: torch.Tensor) -> torch.Tensor:
    """Logits (1, 2, 2, 3) of which class 0 has the probabilities."""
    both = torch.stack((probabilities, 1 - probabilities)).log()
    return both.view(1, 2, 2, 3) + 5  # any constant


@pytest.mark.parametrize(
    ("threshold", "min_kept", "hard"),
    [
        # Class 1 of the fifth pixel has a probability of 0.35; the third pixel is ignored.
        (0.7, 1, [1, 4, 5]),
        (0.85, 1, [1, 3, 4, 5]),
        (0.2, 1, [1]),
        (0.05, 1, [1]),  # nothing is below: the hardest one
        (0.05, 3, [1, 4, 5]),
        (0.2, 4, [1, 3, 4, 5]),
        (0.2, 100, [0, 1, 3, 4, 5]),  # more than there are
    ],
)
@pytest.mark.parametrize("one_logit", [False, True])
def test_pixels_below_the_threshold_or_the_hardest_ones(
    threshold: float, min_kept: int, hard: list[int], one_logit: bool
) -> None:
    logits = two_classes(PROBABILITIES)
    if one_logit:
        logits = (logits[:, 1] - logits[:, 0]).unsqueeze(1)
    found = hard_labels(logits, LABELS, HardPixels(threshold=threshold, min_kept=min_kept)).flatten()
    expected = torch.full((6,), 255)
    expected[hard] = LABELS.flatten()[hard]
    assert found.tolist() == expected.tolist()


@given(st.integers(0, 10**6), st.floats(0.05, 1), st.integers(1, 12), st.sampled_from([1, 3]))
def test_the_rule_pixel_by_pixel(seed: int, threshold: float, min_kept: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (2, classes, 3, 4)).astype(np.float32)
    labels = random.choice([*range(max(2, classes)), 255], (2, 3, 4))
    both = np.concatenate((np.zeros_like(logits), logits), axis=1) if classes == 1 else logits
    p = np.exp(both) / np.exp(both).sum(axis=1, keepdims=True)
    right = {place: p[place[0], labels[place], *place[1:]] for place in zip(*np.nonzero(labels != 255), strict=True)}
    hardest = set(sorted(right, key=right.__getitem__)[: 2 * min_kept])  # of a batch of two images
    expected = np.full_like(labels, 255)
    for place, value in right.items():
        if value < threshold or place in hardest:
            expected[place] = labels[place]
    settings = HardPixels(threshold=threshold, min_kept=min_kept)
    found = hard_labels(torch.tensor(logits), torch.tensor(labels), settings)
    assert (found.numpy() == expected).all()


def test_nothing_but_ignored_pixels_stay_ignored() -> None:
    labels = torch.full((1, 2, 3), 255)
    assert (hard_labels(two_classes(PROBABILITIES), labels, HardPixels(threshold=0.7)) == 255).all()
