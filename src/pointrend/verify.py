"""Comparison of a model's tensors to a reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointrend.references import Check, Reference, ReferenceFileError
from pointrend.tasks import TASKS
from pointrend.zoo import Model


def read_reference(path: Path) -> Reference:
    """Read a reference for a model of any task from a `.npz` file.

    Raises:
        ReferenceFileError: missing, damaged, or not a reference.
    """
    if not path.is_file():
        raise ReferenceFileError(f"{path}: no such reference file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except MemoryError as error:  # a damaged size has this effect, too
        raise ReferenceFileError(f"{path}: not enough memory to read this file, or it is damaged") from error
    except Exception as error:  # broken archives raise many kinds of errors
        raise ReferenceFileError(f"{path}: not a .npz file of numbers, or damaged") from error
    # Later tasks are more specific.
    kinds = [task.reference for task in reversed(TASKS.values()) if task.reference is not None]
    kind = next(kind for kind in kinds if kind.recognises(arrays))
    return kind.parse(path, arrays)


def verify(model: Model, reference: Reference) -> list[Check]:
    """Compare the model's tensors on the reference's image to the reference, in the order of computation.

    Raises:
        ReferenceFileError: the reference is of another task, or a tensor has another shape.
    """
    own = model.task.reference
    if own is None or not isinstance(reference, own):
        does = model.task.predictor.does if own is None else own.does
        raise ReferenceFileError(f"the reference is of {reference.kind()}, {model.spec.name} {does}")
    return reference.checks(model.network, model.spec)
