"""Run encoders in ONNX Runtime, for CPUs without OpenVINO."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pointrend.models.encoder import Maps
from pointrend.zoo.engines.errors import not_installed
from pointrend.zoo.engines.store import conversion_folder, write_folder
from pointrend.zoo.engines.traced import Precision, channels_last, example, tracing
from pointrend.zoo.model import Model

FILE = "model.onnx"


def onnxruntime_maps(model: Model, precision: Precision) -> Maps:
    """Return the encoder, for inputs of any size.

    Raises:
        EngineError: onnxruntime or onnx is not installed.
    """
    assert precision == "float32"
    try:
        import onnx  # noqa: F401  # needed by the exporter
        import onnxruntime
    except ImportError as error:
        raise not_installed("onnxruntime", "onnxruntime") from error
    folder = conversion_folder("onnxruntime", model)
    if not (folder / FILE).is_file():
        write_folder(folder, lambda to: _export(model, to / FILE))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])

    def maps(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": channels_last(images)})
        return [torch.from_numpy(one).permute(0, 3, 1, 2) for one in found]

    return maps


def _export(model: Model, path: Path) -> None:
    with tracing(model.network) as encoder:
        # dynamo=False traces: the newer exporter took 500 times as long for a small network.
        torch.onnx.export(
            encoder,
            (example(model.network),),
            str(path),
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "n", 1: "h", 2: "w"}},
        )
