"""Predictors that see a miniature's scene by its colours, in the place of networks."""

from __future__ import annotations

import miniatures
import numpy as np
from scipy import ndimage

from pointrend.data.classes import ClassInfo
from pointrend.results import InstanceResult, LazyMasks, SemanticResult
from pointrend.spec import InstanceTest, SemanticTest


class ScenePredictor:
    """Labels pixels of a miniature's scene by the nearest colour, and in blocks when coarse."""

    test = SemanticTest()

    def __init__(self, classes: tuple[ClassInfo, ...], shown: tuple[int, ...]) -> None:
        self.classes, self.shown = classes, np.array(shown, np.uint8)

    def compare(self, pixels: np.ndarray) -> dict[str, SemanticResult]:
        smooth = ndimage.uniform_filter(pixels.astype(float), (3, 3, 1))
        distance = np.abs(smooth[..., None, :] - np.array(miniatures.COLORS)).sum(axis=-1)
        fine = self.shown[distance.argmin(axis=-1)]
        coarse = fine[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)[: fine.shape[0], : fine.shape[1]]
        labels = {"coarse": coarse, "pointrend": fine}
        return {row: SemanticResult(labels=one, classes=self.classes, image=pixels) for row, one in labels.items()}


class BlobPredictor:
    """Finds what is bright in a miniature, of the class that its position says, and worse masks when coarse."""

    test = InstanceTest()

    def __init__(self, classes: tuple[ClassInfo, ...], shown: tuple[int, ...], *, bright: int) -> None:
        self.classes, self.shown, self.bright = classes, shown, bright

    def compare(self, pixels: np.ndarray) -> dict[str, InstanceResult]:
        parts, count = ndimage.label(ndimage.uniform_filter(pixels[..., 0].astype(float), 3) > self.bright)
        masks, boxes = [], []
        for box in ndimage.find_objects(parts):
            boxes.append([box[1].start, box[0].start, box[1].stop, box[0].stop])
            inside = parts[box] == parts[box].max()
            rows, columns = (np.arange(56) * size // 56 for size in inside.shape)
            masks.append(inside[rows][:, columns])
        masks.append(np.zeros((56, 56), bool))  # an object without pixels
        boxes.append([1, 1, 9, 9])
        scores = np.linspace(0.9, 0.2, count + 1).astype(np.float32)
        labels = np.array([self.shown[index % len(self.shown)] for index in range(count + 1)])

        def result(probabilities: np.ndarray) -> InstanceResult:
            made = LazyMasks(probabilities, np.array(boxes, np.float32), pixels.shape[:2])
            return InstanceResult(
                boxes=made.boxes, scores=scores, labels=labels, masks=made, classes=self.classes, image=pixels
            )

        fine = np.stack(masks).astype(np.float32)
        full = np.ones_like(fine[:-1])
        return {"coarse": result(np.concatenate((full, fine[-1:]))), "224x224": result(fine)}
