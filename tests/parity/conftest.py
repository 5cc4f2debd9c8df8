"""Stand-ins for published checkpoints, made by the rule that the reference outputs were made with."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pointrend.zoo import Model
from pointrend.zoo.convert import read_published
from pointrend.zoo.manifest import PUBLISHED

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def weights(parity: Path) -> ModuleType:
    """The rule that makes stand-ins for trained weights."""
    spec = importlib.util.spec_from_file_location("synthetic_weights", parity / "synthetic_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoint(parity: Path, weights: ModuleType) -> Callable[[str, str], Arrays]:
    def make(name: str, salt: str) -> Arrays:
        made: Arrays = weights.checkpoint(parity / "keys" / f"{name.replace('-', '_')}.json", salt)
        return made

    return make


@pytest.fixture(scope="session")
def load(checkpoint: Callable[[str, str], Arrays], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """A published model from a file as its toolbox writes it."""

    @cache
    def from_file(name: str) -> Model:
        arrays = checkpoint(name, "")
        folder = tmp_path_factory.mktemp("checkpoint")
        if name.startswith("d2"):
            path = folder / "model_final.pkl"
            path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
        else:
            path = folder / "iter_80000.pth"
            tensors = {k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}
            torch.save({"meta": {"CLASSES": ("road",), "iter": np.int64(80000)}, "state_dict": tensors}, path)
        model = read_published(path, PUBLISHED[name])
        path.unlink()
        return model

    return from_file
