"""Hosts that are no modules: functions, and sessions of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pointrend.errors import PointRendError

_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}


class BlackBox(nn.Module):
    """Any function that gives logits of images, as a network without parameters."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        """Call the function, without gradients."""
        with torch.no_grad():
            return self.function(images)


def as_module(host: Any) -> nn.Module:
    """Return a host as a module: itself, or a black box around a function or a session of ONNX Runtime.

    Raises:
        PointRendError: it is none of these.
    """
    if isinstance(host, nn.Module):
        return host
    if _is_session(host):
        return BlackBox(session_function(host))
    if callable(host):
        return BlackBox(host)
    raise PointRendError(
        f"a host must be a module, a function of images, a session of ONNX Runtime or a name, got {type(host).__name__}"
    )


def session_function(session: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return a function of images (N, 3, H, W) that runs a session of ONNX Runtime, and gives its outputs by name.

    Raises:
        PointRendError: the session has other inputs than one of images.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
        found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise PointRendError(f"the session must have one input of floats (N, 3, H, W), got {found}; give a function")
    (images_input,) = inputs
    dtype, names = _TYPES[images_input.type], [one.name for one in session.get_outputs()]
    together = not isinstance(images_input.shape[0], int)  # a number: so many images at once, which is 1

    def run(images: Tensor) -> dict[str, Tensor]:
        plain = images.detach().to("cpu", dtype).contiguous()
        batches = [plain] if together else list(plain.split(images_input.shape[0]))  # type: ignore[no-untyped-call]
        found = [session.run(names, {images_input.name: batch.numpy()}) for batch in batches]
        return {
            name: torch.cat([torch.from_numpy(one[index]) for one in found]).to(images.device)
            for index, name in enumerate(names)
        }

    return run


def fixed_size(host: Any) -> tuple[int, int] | None:
    """Return the only (H, W) of images that a session of ONNX Runtime takes; None: any, or not known."""
    if not _is_session(host):
        return None
    height, width = host.get_inputs()[0].shape[-2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _is_session(host: Any) -> bool:
    # By what it can do: the package need not be installed.
    return hasattr(host, "run") and hasattr(host, "get_inputs") and hasattr(host, "get_outputs")
