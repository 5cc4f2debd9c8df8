"""Cut-outs of what a model found: chosen by class, without specks, with an edge that is refined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError
from pointrend.refining import Refiner, refiner
from pointrend.results import InstanceResult, Result, SemanticResult
from pointrend.results.cutouts import cutout
from pointrend.results.specks import soft_without_specks, without_specks
from pointrend.viz import is_background

EVERYTHING = "all"
"""In the place of names: all classes, but of label maps not the background; see `viz.is_background`."""


@dataclass(frozen=True)
class Cutting:
    """What is cut out of photographs."""

    classes: tuple[int, ...]
    """Indices of the model's classes."""
    specks: int = 0
    """Parts, and holes, of fewer pixels are removed."""
    refiner: Refiner | None = None
    """What refines the edge; None: the mask is taken as it is."""

    def mask(self, result: Result) -> np.ndarray:
        """Return the mask (H, W) bool of the classes, or of the objects of the classes, without specks."""
        mask = np.zeros(result.image.shape[:2], bool)
        if isinstance(result, SemanticResult):
            for segment in result:
                if segment.index in self.classes:
                    mask |= segment.mask
        elif isinstance(result, InstanceResult):
            for instance in result:
                if instance.label in self.classes:
                    mask |= instance.mask
        else:
            raise PointRendError(f"cut-outs are of label maps and of objects, got {type(result).__name__}")
        return without_specks(mask, self.specks)

    def image(self, result: Result) -> Image.Image:
        """Return the cut-out as RGBA of the photograph's size; what is not of the classes is clear."""
        mask = self.mask(result)
        if self.refiner is None or not mask.any() or mask.all():
            return Image.fromarray(cutout(result.image, mask.astype(np.float32)))
        refined = self.refiner.refine(result.image, mask)
        assert refined.soft is not None  # as it is of one object
        return Image.fromarray(cutout(result.image, soft_without_specks(refined.soft, self.specks)))


def cut_out(
    result: Result, classes: Sequence[str] | str = EVERYTHING, *, specks: int = 0, model: str | None = "refiner-lite0"
) -> Image.Image:
    """Cut classes, or objects of classes, out of the photograph of a result.

    Args:
        result: of a semantic or an instance model.
        classes: names, in any case, or `EVERYTHING`, which does not count the background of label maps.
        specks: parts, and holes, of fewer pixels are removed.
        model: refines the edge; None: nothing does.

    Returns:
        RGBA of the photograph's size; what is not of the classes is clear.

    Raises:
        PointRendError: no class has one of the names, the result is of another kind, or the refiner cannot be loaded.
    """
    background = isinstance(result, SemanticResult)
    return cutting(classes, result.classes, background=background, specks=specks, model=model).image(result)


def cutting(
    names: Sequence[str] | str,
    classes: Sequence[ClassInfo],
    *,
    background: bool = True,
    specks: int = 0,
    model: str | None = "refiner-lite0",
) -> Cutting:
    """Return what cuts classes out.

    Args:
        names: of classes, in any case, or `EVERYTHING`.
        classes: the model's.
        background: one of the classes may be the background, which is not part of everything.
        specks: parts, and holes, of fewer pixels are removed.
        model: refines the edge; None: nothing does.

    Raises:
        PointRendError: no class has one of the names, or the refiner cannot be loaded.
    """
    where = {info.name.casefold(): index for index, info in enumerate(classes)}
    if names == EVERYTHING or list(names) == [EVERYTHING]:
        chosen = tuple(at for at, info in enumerate(classes) if not (background and is_background(at, info)))
    else:
        wanted = [names] if isinstance(names, str) else names
        unknown = [name for name in wanted if name.casefold() not in where]
        if unknown or not wanted:
            raise PointRendError(
                f"no class is called {unknown[0] if unknown else ''!r}; expected {EVERYTHING}, or some of "
                f"{', '.join(info.name for info in classes)}"
            )
        chosen = tuple(where[name.casefold()] for name in wanted)
    if specks < 0:
        raise PointRendError(f"specks must be at least 0 pixels, got {specks}")
    return Cutting(chosen, specks, None if model is None else refiner(model))
