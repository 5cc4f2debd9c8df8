"""A GPU gives what a CPU gives, where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pointrend

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's or AMD's"),
]


def test_predictions_agree() -> None:
    random = np.random.default_rng(0)
    photo = np.kron(random.integers(0, 256, (12, 16, 3), np.uint8), np.ones((24, 24, 1), np.uint8))
    for name in ("people-lite0", "person-lite0"):
        on_cpu, on_gpu = (pointrend.load_model(name, device=device).predict(photo) for device in ("cpu", "cuda"))
        assert np.mean(on_cpu.labels == on_gpu.labels) > 0.995


def test_training_learns(scenes: Path, tiny_settings: list[str], tmp_path: Path) -> None:
    settings = [*tiny_settings, "train.accelerator=cuda", "train.iterations=60", "train.eval_every=60"]
    run = pointrend.train("people-lite0", scenes, tmp_path / "run", settings=settings)
    rows = pointrend.evaluate(pointrend.load_model(run.model, device="cuda"), scenes / "val").rows
    assert rows["pointrend"]["miou"] > 60
