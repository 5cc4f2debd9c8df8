"""What a training writes for a look when its numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from pointrend.data import InputSpec
from pointrend.files import atomic_path, write_atomically

MAX_SHOWN = 16


def write_batch(parts: Sequence[Any], out: Path, name: str, input: InputSpec) -> Path:
    """Write a batch to `out`: its images beside each other as a PNG, and its tensors as a safetensors file.

    Args:
        parts: of the batch.
        out: the folder.
        name: of the files, behind "bad-batch-".
        input: how images were normalised.

    Returns:
        The path of the picture.
    """
    path = out / f"bad-batch-{name}.png"
    tensors = {
        f"{index}.{field}": value.contiguous().cpu()
        for index, part in enumerate(parts)
        for field, value in part._asdict().items()
        if torch.is_tensor(value)
    }
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    shown = [image for part in parts for image in part.images[:, :3].float().cpu()][:MAX_SHOWN]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (input.mean, input.std))
    pixels = [(image * std + mean).nan_to_num().clamp(0, 255).byte().permute(1, 2, 0).numpy() for image in shown]
    if input.channels == "bgr":
        pixels = [image[..., ::-1] for image in pixels]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate([_of_height(image, pixels) for image in pixels], axis=1)).save(temporary)
    return path


def _of_height(image: np.ndarray, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return an image, black below, as high as the highest; parts of a batch may differ."""
    return np.pad(image, ((0, max(other.shape[0] for other in images) - image.shape[0]), (0, 0), (0, 0)))
