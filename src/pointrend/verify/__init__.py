"""Whether a model computes what a reference says: numbers of other implementations, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointrend.verify.check import Check, ReferenceFileError, reference_image
from pointrend.verify.instance import InstanceReference, parse_instance_reference, verify_instances
from pointrend.verify.semantic import Reference, compute, parse_reference, verify_semantic
from pointrend.zoo import InstanceModel, Model

__all__ = [
    "Check",
    "InstanceReference",
    "Reference",
    "ReferenceFileError",
    "compute",
    "read_reference",
    "reference_image",
    "verify",
]


def read_reference(path: Path) -> Reference | InstanceReference:
    """The reference in a `.npz` file, of a model of either task.

    Raises:
        ReferenceFileError: not such a file.
    """
    if not path.is_file():
        raise ReferenceFileError(f"{path}: no such reference file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except MemoryError as error:  # or the damage is in a size
        raise ReferenceFileError(f"{path}: needs more memory than there is, or is damaged") from error
    except Exception as error:  # broken archives fail in many ways
        raise ReferenceFileError(f"{path}: not a .npz file of numbers, or damaged") from error
    if "boxes" in arrays or "det_boxes" in arrays:
        return parse_instance_reference(path, arrays)
    return parse_reference(path, arrays)


def verify(model: Model, reference: Reference | InstanceReference) -> list[Check]:
    """Compare what `model` computes on the reference's image to the reference, in the order of computation.

    Raises:
        ReferenceFileError: the reference is of another model: of the other task, or a tensor has another shape.
    """
    if isinstance(model, InstanceModel):
        if not isinstance(reference, InstanceReference):
            raise ReferenceFileError(f"the reference is of a semantic model, {model.spec.name} finds instances")
        return verify_instances(model, reference)
    if isinstance(reference, InstanceReference):
        raise ReferenceFileError(f"the reference is of an instance model, {model.spec.name} labels pixels")
    return verify_semantic(model, reference)
