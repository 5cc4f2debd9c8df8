"""COCO's JSON for semantic segmentation: objects are painted into label maps, see `pointrend.data.painted`.

Files lie as in the layout coco. Class 0 is the background, categories follow by rising id.
"""

from __future__ import annotations

from pathlib import Path

from pointrend.data.coco_annotations import CocoAnnotations
from pointrend.data.finding import Layout
from pointrend.data.layouts import coco
from pointrend.data.painted import PaintedObjects, painted_classes, painted_labels
from pointrend.data.problems import DatasetError
from pointrend.data.samples import Annotations, Sample, SampleSet


def _matches(root: Path, split: str | None) -> bool:
    return coco.has_annotation_files(root) and not (root / "labels").is_dir()


def _find(root: Path, split: str | None) -> SampleSet:
    return as_semantic(coco.find(root, split, layout="coco"), root, layout="coco-semantic")


def _find_unlabelled(root: Path, split: str | None) -> SampleSet | None:
    found = coco.find_unlabelled(root, split, layout="coco")
    return None if found is None else as_semantic(found, root, layout="coco-semantic")


def as_semantic(samples: SampleSet, source: Path, *, layout: str) -> SampleSet:
    """Return instances of a file with outlines as a semantic data set.

    Raises:
        DatasetError: there are more categories than a label map has values.
    """
    try:
        classes = painted_classes(samples.class_names)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from error
    labels = painted_labels(samples.class_names)

    def painted(annotations: Annotations) -> Annotations:
        return PaintedObjects(annotations, labels) if isinstance(annotations, CocoAnnotations) else annotations

    return SampleSet(
        layout=layout,
        task="semantic",
        samples=tuple(Sample(one.image, painted(one.annotations), one.image_id) for one in samples.samples),
        classes=classes,
        metrics=("semantic",) if samples.metrics else (),
    )


LAYOUTS = {
    "coco-semantic": Layout(
        "semantic",
        _find,
        _matches,
        "annotations/instances_*.json",
        general=True,  # where the task is open, it is a data set of instances
        unlabelled=_find_unlabelled,
        splits=coco.splits,
    )
}
