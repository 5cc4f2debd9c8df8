"""The models that others have published, as `manifest.json` names them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from pointrend.data.classes import ADE20K, CITYSCAPES, ClassInfo
from pointrend.data.instance_classes import CITYSCAPES_THINGS, COCO
from pointrend.zoo.spec import InputSpec, ModelSpec, Strict, parse_spec

CLASSES: dict[str, tuple[ClassInfo, ...]] = {
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "coco": COCO,
    "cityscapes-instances": CITYSCAPES_THINGS,
}
"""By dataset layout. What a published model's logits mean, in their order."""


class Published(Strict):
    """A published checkpoint: what it is, where it lies, and how a copy of it is recognised."""

    spec: ModelSpec
    source: Literal["mmsegmentation", "detectron2"]
    url: str = Field(pattern=r"^https?://[^/]+/.*[^/]$")
    sha256: str | None = Field(pattern=r"^[0-9a-f]{8,64}$")
    """What the file's SHA-256 begins with; None where its publishers do not say."""
    size_bytes: int | None = Field(ge=1)
    """Of the file; None where its publishers do not say."""
    weight_bytes: int = Field(ge=1)
    """Of the tensors in the file: it is a little larger, never smaller."""

    @property
    def name(self) -> str:
        """What `load_model` knows it by."""
        return self.spec.name

    @property
    def file(self) -> str:
        """The file's name, as published."""
        return PurePosixPath(urlsplit(self.url).path).name


class _Entry(Strict):
    """One model in `manifest.json`: its classes stand there by the name of the dataset layout."""

    name: str
    source: Literal["mmsegmentation", "detectron2"]
    url: str
    sha256: str | None
    size_bytes: int | None
    weight_bytes: int
    task: Literal["semantic", "instance"] = "semantic"
    layout: str
    data: str
    licence: str
    scores: dict[str, float]
    architecture: dict[str, object]
    input: InputSpec
    test: dict[str, object]

    def published(self) -> Published:
        spec = {
            "task": self.task,
            "name": self.name,
            "architecture": self.architecture,
            "classes": CLASSES[self.layout],
            "input": self.input,
            "test": self.test,
            "layout": self.layout,
            "data": self.data,
            "licence": self.licence,
            "scores": self.scores,
        }
        return Published(
            spec=parse_spec(spec),
            source=self.source,
            url=self.url,
            sha256=self.sha256,
            size_bytes=self.size_bytes,
            weight_bytes=self.weight_bytes,
        )


def _read() -> dict[str, Published]:
    text = (resources.files("pointrend.zoo") / "manifest.json").read_text(encoding="utf-8")
    models = [_Entry.model_validate(fields).published() for fields in json.loads(text)]
    return {model.name: model for model in models}


PUBLISHED = _read()
"""By name, in the order of the manifest."""
