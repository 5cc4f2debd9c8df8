"""What an engine's precisions gain on photographs, and what they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import get_args

import numpy as np

from pointrend.bench.measure import Spread, interleaved, ratios
from pointrend.predict import InstancePredictor, SemanticPredictor
from pointrend.zoo.engines import Precision, with_engine
from pointrend.zoo.modelfile import InstanceModel, Model


@dataclass(frozen=True)
class PrecisionRow:
    """One precision beside f32."""

    precision: str
    seconds: Spread
    """Of a whole prediction, pixels to result, over photographs."""
    faster: Spread
    """How many times as fast as f32, photograph by photograph."""
    differ: float
    """The share of pixels that have another label than with f32; of instances, that only one counts to an object."""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def compare_precisions(
    model: Model, photos: Sequence[np.ndarray], *, tick: Callable[[], None] = lambda: None
) -> list[PrecisionRow]:
    """f32, bf16 and int8 of the engine openvino on the same photographs (H, W, 3), in turn.

    Raises:
        EngineError: the engine is not installed, or the model was not calibrated for int8.
    """
    names: tuple[Precision, ...] = get_args(Precision)
    predict: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        name: _labels(with_engine(model, "openvino", precision=name)) for name in names
    }
    times: dict[str, list[float]] = {name: [] for name in names}
    pixels, differ = 0, dict.fromkeys(names, 0)
    for photo in photos:
        expected = predict["f32"](photo)
        pixels += expected.size
        for name in names:
            differ[name] += int((predict[name](photo) != expected).sum())
        again = {name: partial(labels, photo) for name, labels in predict.items()}
        for kind, seconds in interleaved(again, repeats=1, tick=tick).items():
            times[kind] += seconds
    return [
        PrecisionRow(name, Spread.of(times[name]), ratios(times, "f32", name), differ[name] / pixels) for name in names
    ]


def _labels(model: Model) -> Callable[[np.ndarray], np.ndarray]:
    """From a photograph to what is compared (H, W)."""
    if isinstance(model, InstanceModel):
        instances = InstancePredictor(model, score_threshold=0.5)
        return lambda photo: instances.predict(photo).ids > 0
    semantic = SemanticPredictor(model)
    return lambda photo: semantic.predict(photo).labels
