"""The models that others have published, read from `manifest.json`."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pointrend.data.classes import ADE20K, CITYSCAPES, CITYSCAPES_THINGS, COCO, ClassInfo
from pointrend.spec import ModelSpec
from pointrend.strict import Strict
from pointrend.zoo.modelfile import parse_spec

CLASSES: dict[str, tuple[ClassInfo, ...]] = {
    "cityscapes": CITYSCAPES,
    "ade20k": ADE20K,
    "coco": COCO,
    "cityscapes-instances": CITYSCAPES_THINGS,
}
"""By the layout of the data set, in the order of a published model's logits."""


class Published(Strict):
    """A published checkpoint: its model, its address, and how a copy of it is recognised."""

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
        """The name that `load_model` takes."""
        return self.spec.name

    @property
    def file(self) -> str:
        """The file's name, as published."""
        return PurePosixPath(urlsplit(self.url).path).name


def _published(entry: dict[str, Any]) -> Published:
    """Return an entry of the manifest, where the keys of `Published` stand beside those of its spec."""
    own = {name: entry.pop(name) for name in Published.model_fields if name != "spec"}
    return Published(spec=parse_spec({**entry, "classes": CLASSES[entry["layout"]]}), **own)


def _read() -> dict[str, Published]:
    text = (resources.files("pointrend.zoo") / "manifest.json").read_text(encoding="utf-8")
    return {model.name: model for model in map(_published, json.loads(text))}


PUBLISHED = _read()
"""By name, in the order of the manifest."""
