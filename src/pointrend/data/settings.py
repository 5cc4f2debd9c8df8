"""Settings of the network's input and of the augmentations in training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from pointrend.data.reading import Reading
from pointrend.strict import Strict

Range = tuple[PositiveFloat, PositiveFloat]


_Mean = Annotated[float, Field(ge=-1e5, le=1e5)]
_Std = Annotated[float, Field(ge=1e-3, le=1e5)]


def _of_switch(value: Any) -> Any:
    return {True: "published", False: "none"}[value] if isinstance(value, bool) else value


Photometric = Annotated[Literal["none", "mild", "published"], BeforeValidator(_of_switch)]
"""How strongly colours are distorted; true means published, false none. See `PhotometricDistort`."""


class InputSpec(Strict):
    """How an image becomes the network's input, in training and in tests alike.

    It is `(pixel - mean) / std` for pixels of 0 to 255, in an order of channels.
    """

    mean: tuple[_Mean, _Mean, _Mean] = (123.675, 116.28, 103.53)
    std: tuple[_Std, _Std, _Std] = (58.395, 57.12, 57.375)
    channels: Literal["rgb", "bgr"] = "rgb"
    antialias: bool = Field(
        True, description="smaller images average pixels, as Pillow does; false skips pixels between, as OpenCV does"
    )
    intensity: Literal["full", "deep"] = Field(
        "full",
        description="how values of more than 8 bits become 0 to 255: from their type's range, or the image's own",
    )

    @property
    def reading(self) -> Reading:
        """How image files are read for this input."""
        return Reading(scaling=self.intensity)


class _Augment(Strict):
    """The augmentations of both tasks."""

    scale: Range | None = None
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    photometric: Photometric = Field("none", description="distortion of colours: none, mild, or as published")
    grayscale: float = Field(0.0, ge=0, le=1, description="probability of conversion to grey")

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float] | None) -> tuple[float, float] | None:
        if scale is not None and scale[0] > scale[1]:
            raise ValueError("expected the smaller scale first")
        return scale


class SemanticAugment(_Augment):
    """The published augmentations of semantic segmentation: random scales, crops, flips and colours."""

    crop: tuple[PositiveInt, PositiveInt] = Field((512, 1024), description="H, W")
    base_scale: float = Field(1.0, gt=0, description="factor by which images are resized, beside the random scale")
    base_short: PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=64)] | None = Field(
        None, description="shortest edge to which images are resized before that; one of several is drawn"
    )
    base_long: PositiveInt | None = Field(None, description="... or to less, so that the longest edge is at most this")
    scale: Range = Field((0.5, 2.0), description="range of the random scale, drawn uniformly")
    max_class_share: float = Field(
        0.75, gt=0, le=1, description="maximum ratio of a crop's pixels that one class may cover; 1: off"
    )
    tries: int = Field(10, ge=0, description="maximum number of further crops drawn to satisfy `max_class_share`")
    photometric: Photometric = Field("published", description="distortion of colours: none, mild, or as published")
    rotate: float = Field(0.0, ge=0, le=180, description="maximum rotation in degrees, to either side")

    @model_validator(mode="after")
    def _long_with_short(self) -> Self:
        if self.base_long is not None and self.base_short is None:
            raise ValueError("base_long limits what base_short resizes to, and needs it")
        return self


class InstanceAugment(_Augment):
    """The augmentations of instance segmentation.

    Published recipes scale the shortest edge to one of several lengths and flip. For microscopy, which has few images
    and no up or down, there are crops at random scales with all turns and flips.
    """

    shortest: tuple[PositiveInt, ...] = Field((640, 672, 704, 736, 768, 800), min_length=1)
    longest: PositiveInt = Field(1333, description="maximum length of the longest edge after scaling")
    scale: Range | None = Field(None, description="random scale instead of `shortest`, uniform in its logarithm")
    crop: tuple[PositiveInt, PositiveInt] | None = Field(None, description="H, W of a random crop; None: whole image")
    dihedral: bool = Field(False, description="one of the eight turns and flips of a square instead of `flip`")
    repeat_threshold: float = Field(
        0.0, ge=0, le=1, description="classes in a smaller ratio of the images are seen more often (LVIS); 0: off"
    )


class MaskSource(Strict):
    """One kind of images with masks that refinement is learned from; paths are below the data's folder."""

    kind: Literal["pairs", "labels", "ids", "coco", "cutouts", "shapes"] = Field(
        description="masks of 0 and 255; label maps; ids of objects; a COCO file; RGBA files to composite; drawn shapes"
    )
    share: float = Field(gt=0, le=1e6, description="of the windows, relative to the other sources")
    images: str = Field("", max_length=500, description="the folder of images; of cut-outs, one or several with commas")
    masks: str = Field("", max_length=500, description="the folder of masks or label images, or the COCO file")
    soft: str | None = Field(None, max_length=500, description="a folder of soft masks of all labels but 0, to refine")
    margin: float = Field(0.0, ge=0, le=64, description="pixels at the outlines whose truth is not certain")
    backgrounds: bool = Field(True, description="the images are also backgrounds and fillings for cut-outs and shapes")


class MaskDataSettings(Strict):
    """What refinement is learned from."""

    sources: tuple[MaskSource, ...] = Field((), max_length=64, description="at least one")
    photos: dict[str, int] = Field(
        default_factory=dict,
        max_length=64,
        description="folders of further backgrounds, and how often each is repeated",
    )


class MaskAugment(Strict):
    """The windows of a refiner's training."""

    window: int = Field(192, ge=64, le=1024, multiple_of=16, description="the side of a window in pixels")
    context: int = Field(96, ge=0, le=1024, description="pixels around it that the making of a wrong mask sees")
    clean: float = Field(0.2, ge=0, le=1, description="the share of masks that are given true, or a pixel beside it")

    @property
    def crop(self) -> tuple[int, int]:
        """(H, W) of a window."""
        return self.window, self.window
