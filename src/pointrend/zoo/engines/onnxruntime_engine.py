"""ONNX Runtime: where OpenVINO is not to be had."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor

from pointrend.zoo.engines.compiled import EXAMPLE, ChannelsLastMaps, Maps, Precision
from pointrend.zoo.engines.errors import not_installed
from pointrend.zoo.engines.store import kept_folder, write_folder
from pointrend.zoo.modelfile import Model

FILE = "model.onnx"


def onnxruntime_maps(model: Model, precision: Precision) -> Maps:
    """The dense part, for inputs of any size.

    Raises:
        EngineError: onnxruntime or onnx is not installed.
    """
    assert precision == "f32"
    try:
        import onnx  # noqa: F401  # the exporter's
        import onnxruntime
    except ImportError as error:
        raise not_installed("onnxruntime", "onnxruntime") from error
    folder = kept_folder("onnxruntime", model)
    if not (folder / FILE).is_file():
        write_folder(folder, lambda to: _export(model, to / FILE))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])

    def maps(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.permute(0, 2, 3, 1).contiguous().numpy()})
        return [torch.from_numpy(one).permute(0, 3, 1, 2) for one in found]

    return maps


def _export(model: Model, path: Path) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Tracing warns of every branch that depends on a size; `EXAMPLE` sees to those.
        warnings.simplefilter("ignore")
        # By tracing: the newer exporter took 500 times as long for a small network.
        torch.onnx.export(
            ChannelsLastMaps(model.network).eval(),
            (torch.zeros(EXAMPLE),),
            str(path),
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "n", 1: "h", 2: "w"}},
        )
