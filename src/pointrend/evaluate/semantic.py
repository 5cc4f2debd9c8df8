"""Scores of a model on a split, always in two rows: before and after rendering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from pointrend.data import SampleSet, SemanticDataset
from pointrend.metrics import SemanticMetrics, SemanticScores
from pointrend.predict import SemanticPredictor

ROWS = ("coarse", "pointrend")


@dataclass(frozen=True)
class Evaluation:
    """Scores in percent, of the coarse logits upsampled bilinearly and of the rendered ones."""

    coarse: SemanticScores
    pointrend: SemanticScores
    class_names: tuple[str, ...]
    num_images: int

    def to_dict(self) -> dict[str, object]:
        """For JSON: `{"rows": {"coarse": {"miou": ...}, "pointrend": {...}}, ...}`."""
        return {
            "unit": "percent",
            "images": self.num_images,
            "rows": {row: getattr(self, row).to_dict(self.class_names) for row in ROWS},
        }


def evaluate(
    predictor: SemanticPredictor,
    samples: SampleSet,
    *,
    limit: int | None = None,
    boundary_share: float = 0.005,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run a model over a split and score it at the images' own sizes.

    Args:
        predictor: applies the model's test settings.
        samples: the split; its classes must be the model's.
        limit: only the first so many images.
        boundary_share: the width of the boundary bands as a share of the image's diagonal.
        progress: called with the number of images done and their total.

    Raises:
        ValueError: the classes are not the model's.
    """
    names = tuple(c.name for c in predictor.spec.classes)
    check_classes(names, samples)
    dataset = SemanticDataset(samples)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    metrics = {row: SemanticMetrics(len(names), boundary_share=boundary_share) for row in ROWS}
    for index in range(total):
        image, labels = dataset.load(index)
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        for row, predicted in zip(ROWS, predictor.compare(pixels), strict=True):
            metrics[row].update(predicted.cpu(), labels.as_subclass(torch.Tensor))
        if progress is not None:
            progress(index + 1, total)
    return Evaluation(
        coarse=metrics["coarse"].compute(),
        pointrend=metrics["pointrend"].compute(),
        class_names=names,
        num_images=total,
    )


def check_classes(names: tuple[str, ...], samples: SampleSet) -> None:
    """Refuse a split whose classes are not the model's, in number, name and order."""
    check_class_names(names, tuple(c.name for c in samples.classes))


def check_class_names(names: tuple[str, ...], found: tuple[str, ...]) -> None:
    """Refuse names of a split's classes that are not those of the model."""
    if len(found) != len(names):
        raise ValueError(f"the model has {len(names)} classes, the data {len(found)}")
    for index, (ours, theirs) in enumerate(zip(names, found, strict=True)):
        if ours != theirs:
            raise ValueError(f"class {index} is {ours!r} for the model, but {theirs!r} in the data")
