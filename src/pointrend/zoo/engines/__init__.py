"""Compute a model's encoder with an inference engine, on the CPU; proposals, boxes and rendering stay ours.

Converted encoders are kept in the cache folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Literal, get_args

from torch import Tensor

from pointrend.models.encoder import Maps, with_encoder
from pointrend.zoo.engines.errors import EngineError
from pointrend.zoo.engines.onnxruntime_engine import onnxruntime_maps
from pointrend.zoo.engines.openvino_engine import openvino_maps, quantize
from pointrend.zoo.engines.traced import Precision
from pointrend.zoo.model import Model

__all__ = ["Engine", "EngineError", "Precision", "calibrate_int8", "installed_engines", "with_engine"]

Engine = Literal["torch", "openvino", "onnxruntime", "auto"]

# The fastest first.
_ENGINES: MappingProxyType[str, Callable[[Model, Precision], Maps]] = MappingProxyType(
    {"openvino": openvino_maps, "onnxruntime": onnxruntime_maps}
)


def installed_engines() -> list[str]:
    """List the engines that `with_engine` can use here, the fastest first and torch last."""
    return [*(name for name in _ENGINES if importlib.util.find_spec(name)), "torch"]


def with_engine(model: Model, engine: Engine = "auto", *, precision: Precision = "float32") -> Model:
    """Return the model with its encoder computed by an engine, for inputs of any size, on the CPU.

    The first use of a model converts it, which takes some seconds.

    Args:
        model: the returned model shares its weights.
        engine: "openvino" or "onnxruntime"; "torch" returns the model as it is; "auto" takes the fastest
            that is installed.
        precision: see `Precision`; other than float32 only with openvino. int8 needs `calibrate_int8` once.

    Raises:
        EngineError: no such engine or precision, it is not installed, the model is not on the CPU, or not calibrated.
    """
    if engine not in get_args(Engine):
        raise EngineError(f"engine must be one of {', '.join(get_args(Engine))}, got {engine!r}")
    if precision not in get_args(Precision):
        raise EngineError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    chosen = installed_engines()[0] if engine == "auto" else engine
    if precision != "float32" and chosen != "openvino":
        raise EngineError(f"precision {precision} needs engine=openvino, got {chosen}")
    if chosen == "torch":
        return model
    _check_on_cpu(model, chosen)
    maps = _ENGINES[chosen](model, precision)
    return Model(with_encoder(model.network, maps), model.spec).eval()


def calibrate_int8(model: Model, images: Iterable[Tensor]) -> None:
    """Quantise the model's encoder for `with_engine(model, "openvino", precision="int8")`.

    Ranges of activations are measured on the images: some dozens, like those the model will see. The result replaces an
    earlier one of this model.

    Args:
        model: on the CPU.
        images: (1, 3, H, W), normalised as the model expects; they are iterated more than once.

    Raises:
        EngineError: openvino or nncf is not installed, or the model is not on the CPU.
    """
    _check_on_cpu(model, "openvino")
    quantize(model, images)


def _check_on_cpu(model: Model, engine: str) -> None:
    if any(parameter.device.type != "cpu" for parameter in model.network.parameters()):
        raise EngineError(f"{engine} computes on the CPU, the model is on {model.device}: load it with device='cpu'")
