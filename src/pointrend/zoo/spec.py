"""What a model file says of itself: enough to build the model, feed it and read its answer, without anything else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

from pointrend.data.classes import ClassInfo

FORMAT_VERSION = 1

Triple = tuple[float, float, float]


class Strict(BaseModel):
    """Unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SemanticNetwork(Strict):
    """The numbers that `pointrend.models.semantic_pointrend` takes, but for the number of classes."""

    backbone: str = "resnet50c"
    fpn_channels: int = Field(256, ge=1, le=2**14)
    coarse_channels: int = Field(128, ge=1, le=2**14)
    coarse_norm: Literal["batch", "group"] = "batch"
    point_hidden: int = Field(256, ge=1, le=2**14)
    point_depth: int = Field(3, ge=0, le=32)
    coarse_every_layer: bool = True
    point_normalize: bool = False
    fine_strides: tuple[Literal[4]] | tuple[Literal[4], Literal[2]] = (4,)
    padding: Literal["zeros", "border"] = "zeros"
    stride_in_1x1: bool = False


class SemanticArchitecture(SemanticNetwork):
    """All numbers that `pointrend.models.semantic_pointrend` takes."""

    backbone: str
    num_classes: int = Field(ge=1, le=2**14)


class InputSpec(Strict):
    """How pixels become the network's input: `(pixel - mean) / std` for pixels of 0 to 255, in this channel order."""

    mean: Triple = (123.675, 116.28, 103.53)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (58.395, 57.12, 57.375)
    channels: Literal["rgb", "bgr"] = "rgb"


class TestSpec(Strict):
    """How the model is run on an image of any size."""

    __test__ = False  # pytest: not a test

    shortest: int = Field(512, ge=32, description="the shortest edge is resized to this, ...")
    longest: int = Field(2048, ge=32, description="... or to less, so that the longest edge is at most this")
    pad_multiple: int = Field(1, ge=1, description="zero padding at the right and bottom to a multiple of this")
    num_points: int = Field(8196, ge=1, description="N, the points of a subdivision step")
    steps: int = Field(2, ge=0, le=8, description="subdivision steps")


class ModelSpec(Strict):
    """All that is known of a model but its weights."""

    format_version: Literal[1] = 1
    name: str
    task: Literal["semantic"] = "semantic"
    architecture: SemanticArchitecture
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2)]
    input: InputSpec = InputSpec()
    test: TestSpec = TestSpec()
    layout: str | None = Field(None, description="the dataset layout that its classes come from")
    data: str = Field("", description="what it was trained on")
    licence: str = ""
    scores: dict[str, float] = Field(default_factory=dict, description="as measured by us or as published, percent")

    @model_validator(mode="after")
    def _classes_match(self) -> ModelSpec:
        expected = num_logits(len(self.classes))
        if self.architecture.num_classes not in (expected, len(self.classes)):
            raise ValueError(
                f"{len(self.classes)} class names, but the network has {self.architecture.num_classes} logits"
            )
        return self


def num_logits(num_classes: int) -> int:
    """Two classes need one logit only: that of the second."""
    return 1 if num_classes == 2 else num_classes
