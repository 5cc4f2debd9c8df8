"""Run encoders in OpenVINO, also in bfloat16, and in 8 bits after a calibration on images."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointrend.models.encoder import Maps
from pointrend.zoo.engines.errors import EngineError, not_installed
from pointrend.zoo.engines.store import conversion_folder, write_folder
from pointrend.zoo.engines.traced import Precision, channels_last, example, tracing
from pointrend.zoo.model import Model

FILE = "model.xml"


def openvino_maps(model: Model, precision: Precision) -> Maps:
    """Return the encoder, for inputs of any size.

    Raises:
        EngineError: openvino is not installed, or the model was not calibrated for int8.
    """
    core = _core()
    folder = _int8_folder(model) if precision == "int8" else _converted(model)
    if not (folder / FILE).is_file():
        name = model.spec.name
        raise EngineError(f"{name} was not calibrated for int8 here: run pointrend calibrate PHOTO... --model {name}")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(folder / FILE), "CPU", settings)

    def maps(images: Tensor) -> list[Tensor]:
        # Each call has its own request, because the maps lie in the request's memory.
        request = compiled.create_infer_request()
        found = request.infer({0: channels_last(images)}, share_inputs=True, share_outputs=True)
        return [torch.from_numpy(found[index]).permute(0, 3, 1, 2) for index in range(len(compiled.outputs))]

    return maps


def quantize(model: Model, images: Iterable[Tensor]) -> None:
    """See `calibrate_int8`."""
    # Its warnings concern GPUs alone.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise not_installed("nncf", "int8") from error
    nncf.set_log_level(logging.ERROR)
    converted = _core().read_model(str(_converted(model) / FILE))
    with redirect_stdout(sys.stderr):  # its progress bars
        dataset = nncf.Dataset(images, channels_last)
        quantized = nncf.quantize(converted, dataset, subset_size=sum(1 for _ in images))

    def write(folder: Path) -> None:
        openvino.save_model(quantized, str(folder / FILE), compress_to_fp16=False)

    write_folder(_int8_folder(model), write, replace=True)


@functools.cache
def _core() -> Any:
    """Return the one core of this process, which is never deleted.

    A core sets the thread's signal stack, and restores the former one when it is deleted. Several cores, deleted in
    another order, leave a stack that no longer exists, and the next signal (a child process that ends, Ctrl-C) crashes.
    """
    try:
        import openvino
    except ImportError as error:
        raise not_installed("openvino", "openvino") from error
    return openvino.Core()


def _converted(model: Model) -> Path:
    """Return the folder with the converted encoder, which is written now if it does not exist."""
    import openvino

    folder = conversion_folder("openvino", model)

    def write(to: Path) -> None:
        with tracing(model.network) as encoder:
            converted = openvino.convert_model(encoder, example_input=example(model.network))
        converted.reshape(openvino.PartialShape([-1, -1, -1, getattr(model.network, "input_channels", 3)]))
        openvino.save_model(converted, str(to / FILE), compress_to_fp16=False)

    if not (folder / FILE).is_file():
        write_folder(folder, write)
    return folder


def _int8_folder(model: Model) -> Path:
    folder = conversion_folder("openvino", model)
    return folder.with_name(f"{folder.name}-int8")
