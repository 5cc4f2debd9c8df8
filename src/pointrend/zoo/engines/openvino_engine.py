"""OpenVINO, the engine for CPUs. It also computes in bfloat16, and in 8 bits after a calibration on images."""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pointrend.zoo.engines.compiled import EXAMPLE, ChannelsLastMaps, Maps, Precision
from pointrend.zoo.engines.errors import EngineError, not_installed
from pointrend.zoo.engines.store import kept_folder, write_folder
from pointrend.zoo.modelfile import Model

FILE = "model.xml"


def openvino_maps(model: Model, precision: Precision) -> Maps:
    """The dense part, for inputs of any size.

    Raises:
        EngineError: openvino is not installed, or for int8 there was no calibration.
    """
    core = _core()
    folder = _int8_folder(model) if precision == "int8" else _converted(model)
    if not (folder / FILE).is_file():
        name = model.spec.name
        raise EngineError(f"{name} was not calibrated for int8 here: run pointrend calibrate PHOTO... --model {name}")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(folder / FILE), "CPU", settings)

    def maps(images: Tensor) -> list[Tensor]:
        # A request of its own, because the maps lie in its memory.
        request = compiled.create_infer_request()
        found = request.infer({0: _pixels(images)}, share_inputs=True, share_outputs=True)
        return [torch.from_numpy(found[index]).permute(0, 3, 1, 2) for index in range(len(compiled.outputs))]

    return maps


def quantize(model: Model, images: Iterable[Tensor]) -> None:
    """See `calibrate_int8`."""
    # It says what concerns only GPUs.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise not_installed("nncf", "int8") from error
    nncf.set_log_level(logging.ERROR)
    converted = _core().read_model(str(_converted(model) / FILE))
    with redirect_stdout(sys.stderr):  # its progress bars
        quantized = nncf.quantize(converted, nncf.Dataset(_Pixels(images)), subset_size=sum(1 for _ in images))

    def write(folder: Path) -> None:
        openvino.save_model(quantized, str(folder / FILE), compress_to_fp16=False)

    write_folder(_int8_folder(model), write, replace=True)


@functools.cache
def _core() -> Any:
    """The one core of this process, which never goes away.

    Each gives the thread a signal stack of its own, and gives back the one before when it goes. Several that go in
    another order leave a stack that is no longer there, and the next signal (a child process that ends, Ctrl-C) ends
    the program.
    """
    try:
        import openvino
    except ImportError as error:
        raise not_installed("openvino", "openvino") from error
    return openvino.Core()


class _Pixels:
    """Images as the engine reads them, each time anew: all of them may not fit in memory."""

    def __init__(self, images: Iterable[Tensor]) -> None:
        self._images = images

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(_pixels, self._images)


def _pixels(images: Tensor) -> np.ndarray:
    pixels: np.ndarray = images.permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _converted(model: Model) -> Path:
    """The folder with the traced and converted dense part; made now if it is not there."""
    import openvino

    folder = kept_folder("openvino", model)

    def write(to: Path) -> None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Tracing warns of every branch that depends on a size; `EXAMPLE` sees to those.
            warnings.simplefilter("ignore")
            maps = ChannelsLastMaps(model.network).eval()
            converted = openvino.convert_model(maps, example_input=torch.zeros(EXAMPLE))
        converted.reshape(openvino.PartialShape([-1, -1, -1, 3]))
        openvino.save_model(converted, str(to / FILE), compress_to_fp16=False)

    if not (folder / FILE).is_file():
        write_folder(folder, write)
    return folder


def _int8_folder(model: Model) -> Path:
    folder = kept_folder("openvino", model)
    return folder.with_name(f"{folder.name}-int8")
