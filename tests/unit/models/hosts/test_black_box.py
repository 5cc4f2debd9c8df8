"""Sessions of ONNX Runtime as hosts."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pointrend
from pointrend.data import SemanticBatch
from pointrend.errors import PointRendError
from pointrend.objectives import SemanticLoss, SemanticObjective


class Tiny(nn.Module):
    """Logits of 3 classes at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 3, 3, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.maps(images)
        return found


def session_of(network: nn.Module, *, fixed: bool = False) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    file = io.BytesIO()
    axes = {} if fixed else {"images": {0: "n", 2: "h", 3: "w"}, "logits": {0: "n", 2: "h", 3: "w"}}
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 96),), file, dynamo=False, dynamic_axes=axes, **names)
    return onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_session_is_a_host_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Tiny().eval()
    session = session_of(network)
    model = pointrend.attach(session).eval()
    layout = model.spec.architecture.host
    assert (layout.stride, layout.stem, layout.frozen, layout.size, layout.multiple) == (8, True, True, None, 1)
    images = torch.randn(2, 3, 40, 64)
    with torch.no_grad():
        assert torch.allclose(model.network(images).coarse, network(images), atol=1e-5)

    pixels = np.random.default_rng(0).integers(0, 255, (41, 67, 3), np.uint8)
    labels = model.predict(pixels, size=41).labels
    pointrend.save_model(model, tmp_path / "session.safetensors")
    again = pointrend.load_model(tmp_path / "session.safetensors", host=session)
    assert np.array_equal(again.predict(pixels, size=41).labels, labels)

    SemanticObjective(model.network.train(), SemanticLoss())(
        SemanticBatch(torch.randn(2, 3, 64, 64), torch.zeros(2, 64, 64, dtype=torch.long)), 0
    ).total.backward()
    assert all(parameter.grad is not None for parameter in model.network.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_session_of_one_size_says_so_itself() -> None:
    torch.manual_seed(0)
    network = Tiny().eval()
    model = pointrend.attach(session_of(network, fixed=True)).eval()
    assert model.spec.architecture.host.size == (64, 96)
    images = torch.randn(2, 3, 128, 128)  # stretched, and run one by one
    stretched = F.interpolate(images, size=(64, 96), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert torch.allclose(model.network(images).coarse, network(stretched), atol=1e-4)


def test_sessions_and_things_that_are_no_hosts_are_said() -> None:
    words = SimpleNamespace(name="words", type="tensor(int64)", shape=["n", 77])
    session = SimpleNamespace(run=None, get_inputs=lambda: [words], get_outputs=list)
    with pytest.raises(PointRendError, match=r"one input of floats \(N, 3, H, W\), got words tensor\(int64\)"):
        pointrend.attach(session)  # type: ignore[call-overload]
    with pytest.raises(PointRendError, match=r"a host must be a module, a function of images, .* got int"):
        pointrend.attach(3)  # type: ignore[call-overload]
