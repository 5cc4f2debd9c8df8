"""Comparison of an engine's precisions: their speed and the pixels that they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import get_args

import numpy as np

from pointrend.timing import Spread, interleaved, ratios
from pointrend.zoo import Model
from pointrend.zoo.engines import Precision, with_engine


@dataclass(frozen=True)
class PrecisionRow:
    """The comparison of one precision to float32."""

    precision: str
    seconds: Spread
    """Seconds of a whole prediction, from pixels to result, over images."""
    faster: Spread
    """Ratio of float32's time to this precision's, over images."""
    differ: float
    """Ratio of pixels with another label than in float32; for instances, of pixels covered by an object in only one."""

    def to_dict(self) -> dict[str, object]:
        """Return the row for JSON."""
        return asdict(self)


def compare_precisions(
    model: Model, photos: Sequence[np.ndarray], *, tick: Callable[[], None] = lambda: None
) -> list[PrecisionRow]:
    """Run float32, bfloat16 and int8 of the engine openvino interleaved on the same images (H, W, 3).

    Raises:
        EngineError: the engine is not installed, or the model was not calibrated for int8.
    """
    names: tuple[Precision, ...] = get_args(Precision)
    predict: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        name: partial(_labels, with_engine(model, "openvino", precision=name)) for name in names
    }
    times: dict[str, list[float]] = {name: [] for name in names}
    pixels, differ = 0, dict.fromkeys(names, 0)
    for photo in photos:
        expected = predict["float32"](photo)
        pixels += expected.size
        for name in names:
            differ[name] += int((predict[name](photo) != expected).sum())
        timed = {name: partial(labels, photo) for name, labels in predict.items()}
        for timed_name, seconds in interleaved(timed, repeats=1, tick=tick).items():
            times[timed_name] += seconds
    return [
        PrecisionRow(name, Spread.of(times[name]), ratios(times, "float32", name), differ[name] / pixels)
        for name in names
    ]


def _labels(model: Model, photo: np.ndarray) -> np.ndarray:
    """Return the label map (H, W) to compare."""
    labels: np.ndarray = model.predict(photo).label_map()
    return labels
