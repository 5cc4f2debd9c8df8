"""What a model file says of itself: enough to build the model, feed it and read its answer, without anything else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, field_validator, model_validator

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


class InstanceNetwork(Strict):
    """The numbers that `pointrend.models.instance_pointrend` takes, but for the number of classes."""

    backbone: str = "resnet50"
    fpn_channels: int = Field(256, ge=1, le=2**14)
    anchor_sizes: Annotated[tuple[tuple[PositiveFloat, ...], ...], Field(min_length=5, max_length=5)] = (
        (32,),
        (64,),
        (128,),
        (256,),
        (512,),
    )
    anchor_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, max_length=32)] = (0.5, 1.0, 2.0)
    box_hidden: int = Field(1024, ge=1, le=2**14)
    box_canonical_size: float = Field(224, gt=0)
    coarse_channels: int = Field(256, ge=1, le=2**14)
    coarse_hidden: int = Field(1024, ge=1, le=2**14)
    point_hidden: int = Field(256, ge=1, le=2**14)
    point_depth: int = Field(3, ge=0, le=32)
    coarse_every_layer: bool = True
    point_normalize: bool = False
    fine_strides: tuple[Literal[4]] | tuple[Literal[4], Literal[2]] = (4,)
    padding: Literal["zeros", "border"] = "zeros"
    stride_in_1x1: bool = False
    class_agnostic: bool = False

    @field_validator("anchor_sizes")
    @classmethod
    def _equally_many(cls, sizes: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if not 1 <= len(sizes[0]) <= 32 or len({len(level) for level in sizes}) > 1:
            raise ValueError("expected as many sizes for each of the five levels")
        return sizes


class InstanceArchitecture(InstanceNetwork):
    """All numbers that `pointrend.models.instance_pointrend` takes."""

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


class InstanceTestSpec(Strict):
    """How an instance model is run on an image of any size."""

    __test__ = False  # pytest: not a test

    shortest: int = Field(800, ge=32, description="the shortest edge is resized to this, ...")
    longest: int = Field(1333, ge=32, description="... or to less, so that the longest edge is at most this")
    scale: float | None = Field(None, gt=0, le=16, description="images are scaled by this instead of to `shortest`")
    pad_multiple: int = Field(32, ge=1, description="zero padding at the right and bottom to a multiple of this")
    proposals_per_level: int = Field(1000, ge=1)
    max_proposals: int = Field(1000, ge=1)
    proposal_nms: float = Field(0.7, gt=0, le=1)
    score_threshold: float = Field(0.05, ge=0, lt=1)
    nms: float = Field(0.5, gt=0, le=1)
    max_detections: int = Field(100, ge=1, le=65535)
    start: int = Field(28, ge=1, le=512, description="the side of the grid that rendering starts from")
    num_points: int = Field(784, ge=1, description="N, the points of a subdivision step")
    steps: int = Field(3, ge=0, le=6, description="subdivision steps")
    paste: Literal["bilinear", "area"] = Field("area", description="how a mask is read by the image's pixels")


class _Described(Strict):
    """What is known of a model of either task."""

    format_version: Literal[1] = 1
    name: str
    input: InputSpec = InputSpec()
    layout: str | None = Field(None, description="the dataset layout that its classes come from")
    data: str = Field("", description="what it was trained on")
    licence: str = ""
    scores: dict[str, float] = Field(default_factory=dict, description="as measured by us or as published, percent")


class InstanceSpec(_Described):
    """All that is known of an instance model but its weights."""

    task: Literal["instance"] = "instance"
    architecture: InstanceArchitecture
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1)]
    test: InstanceTestSpec = InstanceTestSpec()

    @model_validator(mode="after")
    def _classes_match(self) -> InstanceSpec:
        if self.architecture.num_classes != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names, but the network has {self.architecture.num_classes}")
        return self


class SemanticSpec(_Described):
    """All that is known of a semantic model but its weights."""

    task: Literal["semantic"] = "semantic"
    architecture: SemanticArchitecture
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2)]
    test: TestSpec = TestSpec()

    @model_validator(mode="after")
    def _classes_match(self) -> SemanticSpec:
        expected = num_logits(len(self.classes))
        if self.architecture.num_classes not in (expected, len(self.classes)):
            raise ValueError(
                f"{len(self.classes)} class names, but the network has {self.architecture.num_classes} logits"
            )
        return self


ModelSpec = SemanticSpec | InstanceSpec

Architecture = SemanticArchitecture | InstanceArchitecture


def parse_spec(fields: object) -> ModelSpec:
    """The spec of either task.

    Raises:
        ValidationError: of pydantic, where `fields` are none.
    """
    if isinstance(fields, dict) and fields.get("task") == "instance":
        return InstanceSpec.model_validate(fields)
    return SemanticSpec.model_validate(fields)


def num_logits(num_classes: int) -> int:
    """Two classes need one logit only: that of the second."""
    return 1 if num_classes == 2 else num_classes
