"""Refinement in one call: a photograph and a mask of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from pydantic import ValidationError

from pointrend.errors import PointRendError, warn
from pointrend.inputs import ImageInput, is_batch, to_photo
from pointrend.predict import RefinerPredictor
from pointrend.refining.masks import Fit, Given, Kind, MaskInput, fitted, fitted_labels, given_mask
from pointrend.results import RefinedMask
from pointrend.strict import first_problem
from pointrend.zoo import Model, load_model

DEFAULT_MODEL = "refiner-lite0"
Progress = Callable[[int], None]
"""Called with the number of windows that were just done."""


@dataclass(frozen=True)
class Refiner:
    """A model that refines masks, with its settings."""

    predictor: RefinerPredictor

    def refine(
        self,
        image: ImageInput,
        mask: MaskInput,
        *,
        kind: Kind | None = None,
        fit: Fit | None = None,
        progress: Progress | None = None,
    ) -> RefinedMask:
        """Refine the mask of a photograph; see `refine`."""
        path = Path(image) if isinstance(image, (str, Path)) else None
        photo = to_photo(image)
        given = given_mask(mask, kind)
        size = (photo.pixels.shape[0], photo.pixels.shape[1])
        refined = self._labels if given.labels is not None else self._single
        labels, before, soft, notes = refined(photo.pixels, given, size, fit, progress)
        result = RefinedMask(
            classes=self.predictor.spec.classes, image=photo.pixels, path=path, labels=labels, given=before, soft=soft
        )
        result = result.noted((*photo.notes, *given.notes, *notes))
        for note in result.notes:
            warn(note if path is None else f"{path}: {note}")
        return result

    def _single(
        self, pixels: np.ndarray, given: Given, size: tuple[int, int], fit: Fit | None, progress: Progress | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
        plane = fitted(given.planes[0], size, fit, logits=given.kind == "logits")
        before = (plane > 0.5).numpy()
        notes = () if before.any() and not before.all() else (_uniform(before),)
        refined = self.predictor.refine(pixels, plane, progress)
        return (refined.soft > 0.5).numpy(), before, refined.soft.numpy(), notes

    def _labels(
        self, pixels: np.ndarray, given: Given, size: tuple[int, int], fit: Fit | None, progress: Progress | None
    ) -> tuple[np.ndarray, np.ndarray, None, tuple[str, ...]]:
        """Refine every label, and give each pixel the likeliest one; where none is asked, it keeps its own."""
        before = fitted_labels(given, size, fit)
        best = torch.full(size, 0.5) if given.kind == "ids" else torch.full(size, -1.0)
        labels = np.zeros(size, before.dtype) if given.kind == "ids" else before.copy()
        for value, plane in zip(given.values, given.planes, strict=True):
            whole = fitted(plane, size, fit)
            refined = self.predictor.refine(pixels, whole, progress)
            # A pixel's own label wins ties.
            likelier = (refined.soft > best) | ((refined.soft == best) & torch.from_numpy(before == value))
            labels[likelier.numpy()] = value
            best = torch.maximum(best, refined.soft)
        notes = (_uniform(before),) if len(np.unique(before)) < 2 else ()
        return labels, before, None, notes


def refiner(
    model: str | Path | Model = DEFAULT_MODEL,
    *,
    device: str = "cpu",
    engine: str = "torch",
    passes: int | None = None,
    extent: int | None = None,
    keep: float | None = None,
) -> Refiner:
    """Load a model that refines masks, for many calls; see `refine` for the arguments.

    Raises:
        PointRendError: there is no such model, it does not refine masks, or a number is out of range.
    """
    loaded = model if isinstance(model, Model) else _loaded(str(model), device, engine)
    predictor = loaded.scoring_predictor()
    if not isinstance(predictor, RefinerPredictor):
        raise PointRendError(f"{loaded.spec.name} {predictor.does}; masks are refined by {DEFAULT_MODEL}")
    changes = {"passes": passes, "extent": extent, "keep": keep}
    numbers = predictor.test.model_dump() | {name: value for name, value in changes.items() if value is not None}
    try:
        return Refiner(predictor.with_settings(type(predictor.test).model_validate(numbers)))
    except ValidationError as error:
        raise PointRendError(first_problem(error)) from error


@lru_cache(maxsize=2)
def _loaded(model: str, device: str, engine: str) -> Model:
    return load_model(model, device=device, engine=engine)  # type: ignore[arg-type]


@overload
def refine(
    image: ImageInput,
    mask: MaskInput,
    *,
    model: str | Path | Model = ...,
    kind: Kind | None = ...,
    fit: Fit | None = ...,
    passes: int | None = ...,
    extent: int | None = ...,
    keep: float | None = ...,
    device: str = ...,
    engine: str = ...,
) -> RefinedMask: ...


@overload
def refine(
    image: Sequence[ImageInput],
    mask: Sequence[MaskInput],
    *,
    model: str | Path | Model = ...,
    kind: Kind | None = ...,
    fit: Fit | None = ...,
    passes: int | None = ...,
    extent: int | None = ...,
    keep: float | None = ...,
    device: str = ...,
    engine: str = ...,
) -> list[RefinedMask]: ...


def refine(
    image: Any,
    mask: Any,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    kind: Kind | None = None,
    fit: Fit | None = None,
    passes: int | None = None,
    extent: int | None = None,
    keep: float | None = None,
    device: str = "cpu",
    engine: str = "torch",
) -> Any:
    """Make the outline of a mask follow that of the object in the photograph.

    The mask is the coarse prediction: windows along its outline are encoded at the photograph's own resolution, and
    points near the outline are predicted anew (PointRend, section 3.1). Where a pass hardly moves the outline, the
    given mask is kept.

    Args:
        image: a path, a PIL image, an array (H, W, 3) or a tensor (3, H, W); or a list of them.
        mask: of any size: a path, a PIL image, an array or tensor (h, w), or a result of this package; or a list.
        model: a refiner.
        kind: what the mask's values mean: "binary"; "probabilities", of floats in [0, 1] or integers over their whole
            range; "logits"; "labels", of which each class is refined; "ids" of objects, with 0 for none. None guesses
            where only one meaning is possible. Probabilities and logits are refined better than a binary mask.
        fit: what a mask of another shape covers: the photograph "stretch"ed to it, or "pad"ded at the right and bottom
            to a square. None where the sides have equal ratios.
        passes: over the windows; None: the model's.
        extent: pixels; nothing changes further than this from the given outline. None: the model's.
        keep: in [0, 1]: where the first pass moves at most this ratio of the outline, it stays as given. 0 keeps
            nothing, 1 all.
            None: the model's.
        device: to compute on.
        engine: that computes: torch, onnxruntime or openvino.

    Returns:
        The refined mask, or a list.

    Raises:
        PointRendError: the image or the mask cannot be read, what the mask means or covers is not certain, or there
            are more masks than images.
    """
    chosen = refiner(model, device=device, engine=engine, passes=passes, extent=extent, keep=keep)
    if not is_batch(image):
        return chosen.refine(image, mask, kind=kind, fit=fit)
    images, masks = list(image), list(mask)
    if len(images) != len(masks):
        raise PointRendError(f"expected a mask for each image, got {len(images)} images and {len(masks)} masks")
    return [chosen.refine(one, other, kind=kind, fit=fit) for one, other in zip(images, masks, strict=True)]


def _uniform(labels: np.ndarray) -> str:
    """Return the note on a mask without an outline."""
    what = "empty" if not labels.any() else "the same everywhere"
    return f"the mask is {what}: there is no outline to refine, and it is returned as it is"
