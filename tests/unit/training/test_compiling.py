"""`train.compile`: what is compiled, what stays as it was, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from people_files import write_labels
from small_recipe import SMALL
from torch import nn

from pointrend.models import SemanticPointRend, semantic_pointrend
from pointrend.models.settings import HostLayout, SemanticArchitecture
from pointrend.training.compiling import compile_encoder, not_compiled
from pointrend.training.loop import train_prepared
from pointrend.training.prepare import prepare
from pointrend.training.recipe import RecipeError, load_recipe
from pointrend.zoo.load import load_model

SETTINGS = (*SMALL, "train.iterations=2", "train.eval_every=1", "optim.ema=0")
CPU = torch.device("cpu")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Compile by tracing alone, which takes no minutes; the sizes of the inputs of graphs when they run."""
    torch._dynamo.reset()
    ran: list[torch.Size] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        def run(*inputs: Any) -> Any:
            ran.append(inputs[-1].shape if isinstance(inputs[-1], torch.Tensor) else torch.Size())
            return graph(*inputs)

        return run

    compile_in_place = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_in_place(self, backend=backend))
    return ran


def test_a_compiled_training_ends_in_the_same_weights(tmp_path: Path, graphs: list[torch.Size]) -> None:
    data = write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8))
    ends, counts = {}, {}
    for compiled in ("false", "true"):
        out = tmp_path / compiled
        train_prepared(prepare(load_recipe("people-lite0", [*SETTINGS, f"train.compile={compiled}"]), data), out)
        ends[compiled] = torch.load(out / "last.pt", weights_only=True)["network"]
        counts[compiled] = len(graphs)
        assert load_model(out / "best.safetensors").spec.class_names
    assert counts["false"] == 0
    assert counts["true"] >= 2 * 3  # backbone, pyramid and coarse head, in each iteration; evaluations run none
    assert list(ends["true"]) == list(ends["false"])
    for name, tensor in ends["false"].items():
        assert torch.allclose(tensor, ends["true"][name], atol=1e-6), name


def test_evaluations_run_what_is_written(graphs: list[torch.Size]) -> None:
    network = load_recipe_network()
    compile_encoder(network, CPU)
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 32))
        assert graphs
        graphs.clear()
        with not_compiled():
            network(torch.rand(1, 3, 64, 32))
    assert not graphs


def load_recipe_network() -> SemanticPointRend:
    recipe: Any = load_recipe("people-lite0", SETTINGS)
    network = semantic_pointrend(3, recipe.model).eval()
    assert isinstance(network, SemanticPointRend)
    return network


def test_without_a_compiler_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(RecipeError, match=r"^train.compile: on a CPU torch.compile needs a C\+\+ compiler, and found"):
        compile_encoder(load_recipe_network(), CPU)


def test_attached_networks_are_not_compiled() -> None:
    layout = HostLayout(family="torchvision", name="lraspp_mobilenet_v3_large")
    with pytest.raises(RecipeError, match=r"^train.compile: networks that PointRend is attached to are not compiled"):
        compile_encoder(semantic_pointrend(3, SemanticArchitecture(host=layout)), CPU)
