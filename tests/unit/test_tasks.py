"""What the table of tasks builds from a recipe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people_files import write_labels
from torch import nn

from pointrend.data import find_samples
from pointrend.errors import PointRendError
from pointrend.objectives import SemanticObjective, balanced_weights
from pointrend.tasks import TASKS
from pointrend.training.recipe import load_recipe


class Network(nn.Module):
    independent = False


def objective(root: Path, *settings: str) -> SemanticObjective:
    samples = find_samples(root, task="semantic", layout="folder", split="train")
    built = TASKS["semantic"].objective(Network(), load_recipe("people-lite0", settings), samples)
    assert isinstance(built, SemanticObjective)
    return built


def test_classes_weigh_as_the_recipe_says(tmp_path: Path) -> None:
    root = write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8))
    samples = find_samples(root, task="semantic", layout="folder", split="train")
    balanced = objective(root, "loss.class_balance=0.5").class_weights
    assert balanced is not None
    torch.testing.assert_close(balanced, balanced_weights(samples, 0.5))
    assert balanced[1] > 2 * balanced[0]  # discs are small
    listed = objective(root, "loss.class_balance=0", "loss.class_weights=[0.5, 3]").class_weights
    assert listed is not None
    assert listed.tolist() == [0.5, 3.0]
    assert objective(root, "loss.class_balance=0").class_weights is None
    with pytest.raises(PointRendError, match="the 2 classes, got 3"):
        objective(root, "loss.class_balance=0", "loss.class_weights=[1, 2, 3]")
