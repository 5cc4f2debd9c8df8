"""What a training writes for a look when its numbers are no longer finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from pointrend.data import InputSpec
from pointrend.files import atomic_path, write_atomically

MAX_SHOWN = 16


def write_batch(batch: Any, out: Path, iteration: int, input: InputSpec) -> Path:
    """Write a batch to `out`: its images beside each other as a PNG, and its tensors as a safetensors file.

    Returns:
        The path of the picture.
    """
    path = out / f"bad-batch-{iteration}.png"
    tensors = {name: value.contiguous().cpu() for name, value in batch._asdict().items() if torch.is_tensor(value)}
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    images = batch.images[:MAX_SHOWN, :3].float().cpu()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (input.mean, input.std))
    pixels = (images * std + mean).nan_to_num().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    if input.channels == "bgr":
        pixels = pixels[..., ::-1]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(list(pixels), axis=1)).save(temporary)
    return path
