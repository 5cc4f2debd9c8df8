"""The description in a model file: everything needed to build the model, feed it and interpret its output."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from pointrend.core import LABEL_SUBDIVISION, MASK_SUBDIVISION, MAX_INDEPENDENT, Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.data.settings import InputSpec
from pointrend.models.settings import Detection, InstanceArchitecture, RefinerArchitecture, SemanticArchitecture
from pointrend.strict import LongText, Strict, Text

FORMAT_VERSION: Final = 2

MAX_MASK_STEPS = 6
"""Maximum number of subdivision steps of masks: from 28x28 to 1792x1792."""


SHOWN_SCORE = 0.5
"""Default score threshold of predictions: objects below it help an average precision, but clutter an overlay."""
MAX_MASK_SIDE = 2048
MAX_SHORTEST = 8192
"""Maximum of the shortest edge that a network sees, in pixels."""
MAX_LONGEST = 32768
MAX_CLASSES = 2**14


class TestSpec(Strict):
    """How a model of any task is run on an image of any size."""

    __test__ = False  # pytest: not a test

    shortest: int = Field(512, ge=32, le=MAX_SHORTEST, description="the shortest edge is resized to this, ...")
    longest: int = Field(
        2048, ge=32, le=MAX_LONGEST, description="... or to less, so that the longest edge is at most this"
    )
    scale: float | None = Field(None, gt=0, le=16, description="images are scaled by this instead of to `shortest`")
    pad_multiple: int = Field(
        1, ge=1, le=1024, description="zero padding at the right and bottom to a multiple of this"
    )
    subdivision: Subdivision

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        # With a scale, `shortest` is not used, and may be larger.
        if self.scale is None and self.longest < self.shortest:
            raise ValueError(f"longest must be at least shortest, {self.shortest}, got {self.longest}")
        return self

    def scaled(self, factor: float) -> Self:
        """Return the settings by which the network sees images larger by a factor."""
        return self.model_copy(
            update={
                "shortest": max(1, int(self.shortest * factor + 0.5)),
                "longest": max(1, int(self.longest * factor + 0.5)),
                "scale": None if self.scale is None else self.scale * factor,
            }
        )


class SemanticTest(TestSpec):
    """How a semantic model is run on an image of any size."""

    subdivision: Subdivision = LABEL_SUBDIVISION


class InstanceTest(TestSpec):
    """How an instance model is run on an image of any size."""

    shortest: int = Field(800, ge=32, le=MAX_SHORTEST, description="the shortest edge is resized to this, ...")
    longest: int = Field(
        1333, ge=32, le=MAX_LONGEST, description="... or to less, so that the longest edge is at most this"
    )
    pad_multiple: int = Field(
        32, ge=1, le=1024, description="zero padding at the right and bottom to a multiple of this"
    )
    detection: Detection = Detection()
    subdivision: Subdivision = MASK_SUBDIVISION
    adaptive: bool = Field(False, description="masks are rendered no finer than the image's pixels")
    paste: Literal["bilinear", "area"] = Field("area", description="how a mask is read by the image's pixels")

    @field_validator("subdivision")
    @classmethod
    def _of_masks(cls, subdivision: Subdivision) -> Subdivision:
        if subdivision.start < 1:
            raise ValueError("masks need a start grid of at least 1 pixel a side")
        if subdivision.steps > MAX_MASK_STEPS:
            raise ValueError(f"masks are rendered in 0 to {MAX_MASK_STEPS} steps, got {subdivision.steps}")
        if (side := subdivision.start << subdivision.steps) > MAX_MASK_SIDE:
            raise ValueError(f"masks are rendered to at most {MAX_MASK_SIDE} pixels a side, got {side}")
        return subdivision


class RefinerTest(Strict):
    """How a refiner is run on a photograph and a mask of any size; lengths are in pixels."""

    window: int = Field(256, ge=64, le=2048, multiple_of=16, description="the side of the windows that are predicted")
    margin: int = Field(48, ge=0, le=512, description="of each window, where its logits fade into its neighbours'")
    batch: int = Field(4, ge=1, le=256, description="windows at a time")
    first: int = Field(512, ge=64, le=4096, description="larger objects are first refined at this size")
    passes: int = Field(2, ge=1, le=8, description="at the photograph's own resolution")
    reach: int = Field(16, ge=1, le=256, description="windows are laid over what is this near to an outline")
    extent: int = Field(48, ge=1, le=2048, description="nothing changes further than this from the given outline")
    keep: float = Field(
        0.25,
        ge=0,
        le=1,
        description="where the first pass moves at most this ratio of the outline it stays; 0: nowhere",
    )
    halfway: float = Field(
        1.6, ge=1, le=100, description="where it moves at most so many times `keep`, the outline goes half of the way"
    )
    sure: float = Field(
        0.2, ge=0, lt=0.5, description="pixels count as moved whose probability is further than this from 0.5"
    )
    neighbourhood: int = Field(513, ge=3, le=1023, description="the side of the square in which that is counted")
    subdivision: Subdivision = Subdivision(num_points=4096, steps=2)

    @model_validator(mode="after")
    def _windows_overlap(self) -> Self:
        if self.window <= 2 * self.margin:
            raise ValueError(f"window must be more than twice the margin, {self.margin}, got {self.window}")
        if self.neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd, got {self.neighbourhood}")
        return self


class TrainingFacts(Strict):
    """What the published tables say of a model's training."""

    crop: tuple[int, int] | None = Field(None, description="(H, W) of the crops, in pixels; None: whole images")
    iterations: int = Field(ge=1, le=10**9)
    peak_memory: int | None = Field(None, ge=1, le=2**60, description="bytes of a device or, on CPUs, of the process")


class ModelSpec(Strict):
    """The description of a model of any task, without its weights."""

    format_version: Literal[2] = FORMAT_VERSION
    name: Text
    task: Text
    architecture: Any
    num_logits: int = Field(ge=1, le=MAX_CLASSES, description="the logits of the network")
    classes: tuple[ClassInfo, ...]
    input: InputSpec = InputSpec()
    test: Any
    layout: Text | None = Field(None, description="the layout of the data set that its classes come from")
    data: LongText = Field("", description="what it was trained on")
    licence: LongText = ""
    training: TrainingFacts | None = Field(None, description="None: not known")
    scores: dict[Text, float] = Field(
        default_factory=dict, max_length=1000, description="as measured by us or as published, percent"
    )

    @property
    def backbone(self) -> str:
        """The name of the network's backbone, for messages."""
        return str(getattr(self.architecture, "backbone", "network without a backbone"))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return tuple(info.name for info in self.classes)


class SemanticSpec(ModelSpec):
    """The description of a semantic model."""

    task: Literal["semantic"] = "semantic"
    architecture: SemanticArchitecture
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2, max_length=MAX_CLASSES)]
    test: SemanticTest = SemanticTest()
    usual_certainty: float | None = Field(
        None, gt=0, le=1, description="19 of 20 images of its kind have a `certainty` above this; below, a note is made"
    )

    @model_validator(mode="after")
    def _classes_match(self) -> Self:
        if self.num_logits not in (num_logits(len(self.classes)), len(self.classes)):
            raise ValueError(f"{len(self.classes)} class names, but the network has {self.num_logits} logits")
        return self


class MultiLabelSpec(SemanticSpec):
    """The description of a model whose classes do not exclude each other."""

    task: Literal["multi-label"] = "multi-label"  # type: ignore[assignment]  # all else is as in semantic models
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=MAX_INDEPENDENT)]

    @model_validator(mode="after")
    def _one_logit_a_class(self) -> Self:
        if self.num_logits != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names, but the network has {self.num_logits} logits")
        if not self.architecture.host.multi_label:
            raise ValueError("multi-label models need a network of independent classes (architecture.host.multi_label)")
        return self


class InstanceSpec(ModelSpec):
    """The description of an instance model."""

    task: Literal["instance"] = "instance"
    architecture: InstanceArchitecture
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    test: InstanceTest = InstanceTest()

    @model_validator(mode="after")
    def _classes_match(self) -> Self:
        if self.num_logits != len(self.classes):
            raise ValueError(f"{len(self.classes)} class names, but the network has {self.num_logits} logits")
        return self


REFINED_CLASSES = (ClassInfo("background", (0, 0, 0)), ClassInfo("object", (230, 60, 60)))


class RefinerSpec(ModelSpec):
    """The description of a model that refines masks."""

    task: Literal["refinement"] = "refinement"
    architecture: RefinerArchitecture = RefinerArchitecture()
    num_logits: Literal[1] = 1
    classes: Annotated[tuple[ClassInfo, ...], Field(min_length=2, max_length=2)] = REFINED_CLASSES
    test: RefinerTest = RefinerTest()


def num_logits(num_classes: int) -> int:
    """Return the number of logits of a semantic network: 1 for two classes, as the second class's logit suffices."""
    return 1 if num_classes == 2 else num_classes
