"""Frames per second and peak memory of a model on the images of a split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from pointrend.data import SampleSet
from pointrend.data.images import read_photo
from pointrend.devices import synchronize
from pointrend.errors import PointRendError
from pointrend.peak import MemoryOf, peak, reset_peak
from pointrend.predict import PredictOptions
from pointrend.timing import Spread
from pointrend.zoo import Model

WARM_UP = 3
"""The number of predictions before the measurement, which are not timed."""
IMAGES = 50
"""The maximum number of images that are measured."""


@dataclass(frozen=True)
class Speed:
    """How fast a model predicts, one image at a time."""

    seconds: Spread
    """Of a prediction, from the decoded image to the result on the CPU at the image's own size: resizing, network and
    rendering count; reading files, scoring and writing do not."""
    images: int
    device: str
    threads: int
    """Of PyTorch on the CPU."""
    peak_memory: int | None
    """Bytes; None where it cannot be known."""
    memory_of: MemoryOf | None
    """"device", or "process": everything the process holds, PyTorch itself included."""

    @property
    def fps(self) -> float:
        """Images per second: 1 over the median of the seconds."""
        return 1 / self.seconds.median

    def __str__(self) -> str:
        """Return a sentence."""
        low, high = 1 / self.seconds.high, 1 / self.seconds.low
        memory = (
            "" if self.peak_memory is None else f"; peak memory of the {self.memory_of} {self.peak_memory / 1e9:.2f} GB"
        )
        where = f"{self.device}, {self.threads} threads" if self.device == "cpu" else self.device
        return (
            f"{self.fps:.2f} frames per second (quartiles {low:.2f} to {high:.2f}), {self.images} images on {where}: "
            f"from the decoded image to the result at its own size, one at a time, median after {WARM_UP} for warm-up"
            f"{memory}"
        )

    def to_dict(self) -> dict[str, object]:
        """Return the numbers for JSON."""
        return {"fps": self.fps, **asdict(self)}


def measure_speed(
    model: Model,
    samples: SampleSet,
    *,
    options: PredictOptions = PredictOptions(),
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Speed:
    """Predict the images of a split one by one, and return how fast that is; devices are waited for.

    Args:
        model: from `load_model`.
        samples: the split.
        options: changes to the model's test settings.
        limit: the maximum number of images; None: 50.
        progress: called with the number of images done and their total.

    Raises:
        PointRendError: the split has no images, or one cannot be read.
    """
    paths = [sample.image for sample in samples.samples[: min(limit or IMAGES, IMAGES)]]
    if not paths:
        raise PointRendError("there are no images to measure speed with")
    predictor, device = model.scoring_predictor(options), model.device
    seconds: list[float] = []
    for index in range(-WARM_UP, len(paths)):
        pixels = read_photo(paths[max(index, 0)], model.spec.input.reading).pixels
        if index == 0:
            reset_peak(device)
        synchronize(device)
        started = time.perf_counter()
        predictor.predict(pixels)
        synchronize(device)
        if index >= 0:
            seconds.append(time.perf_counter() - started)
            if progress is not None:
                progress(index + 1, len(paths))
    memory = peak(device)
    return Speed(
        seconds=Spread.of(seconds),
        images=len(paths),
        device=str(device),
        threads=torch.get_num_threads(),
        peak_memory=None if memory is None else memory.bytes,
        memory_of=None if memory is None else memory.of,
    )
