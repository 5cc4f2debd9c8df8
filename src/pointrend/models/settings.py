"""The numbers of the networks: argument of the builders, recipe section and file header alike."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pointrend.strict import Strict, Text

Width = Annotated[int, Field(ge=1, le=2**14)]
"""The number of channels of a layer."""


MAX_PROPOSALS = 20_000
AnchorSize = Annotated[float, Field(ge=1, le=1e5)]
"""The side of an anchor in pixels."""
Ratio = Annotated[float, Field(ge=1e-3, le=1e3)]
"""Height to width."""


def _known_strides(strides: tuple[int, ...]) -> tuple[int, ...]:
    if 4 not in strides or not set(strides) <= {2, 4}:
        raise ValueError("fine_strides must be (4,) or (4, 2)")
    return tuple(sorted(set(strides), reverse=True))


FineStrides = Annotated[tuple[int, ...], Field(max_length=8), AfterValidator(_known_strides)]
"""(4,) reads the pyramid's finest map alone; (4, 2) also the backbone's own map at stride 2, for finer boundaries."""


def _levels_or_early(strides: tuple[int, ...]) -> tuple[int, ...]:
    if not strides or not set(strides) <= {2, 4, 8, 16, 32}:
        raise ValueError("fine_strides must be of 2, 4, 8, 16 and 32")
    return tuple(sorted(set(strides), reverse=True))


class PointArchitecture(Strict):
    """The numbers of a `PointHead`, and how points read maps."""

    hidden: Width = Field(256, description="width of each hidden layer")
    depth: int = Field(3, ge=0, le=32, description="number of hidden layers")
    coarse_every_layer: bool = Field(True, description="every layer sees the coarse logits, not the first alone")
    normalize: bool = Field(False, description="fine features pass a batch norm over the points first")
    padding: Literal["zeros", "border"] = Field("zeros", description="what points read outside of a map")


class MaskArchitecture(Strict):
    """The numbers of a `PointRendMaskHead`."""

    channels: Width = Field(256, description="of the coarse head's convolution")
    hidden: Width = Field(1024, description="width of the coarse head's fully connected layers")
    class_agnostic: bool = Field(False, description="one mask for all classes")
    point: PointArchitecture = PointArchitecture()


class PyramidArchitecture(Strict):
    """The numbers of a backbone and the feature pyramid over it."""

    backbone: Text = Field("resnet50", description="a model of timm with features at strides 4, 8, 16 and 32")
    stride_in_1x1: bool = Field(False, description="bottlenecks take their stride in the first 1x1 convolution")
    fine_strides: FineStrides = (4,)
    fpn_channels: Width = 256


Argument = bool | int | float | Annotated[str, Field(max_length=200)] | None
Word = Annotated[str, Field(max_length=100)]
Arguments = Annotated[tuple[Argument, ...], Field(max_length=64)]
HostArguments = Annotated[dict[Word, Argument | Arguments | dict[Word, Argument | Arguments]], Field(max_length=64)]
Path = Annotated[str, Field(max_length=300, pattern=r"^[A-Za-z0-9_.]*$")]
"""Of a module in a network, as in `named_modules`; "" is the network itself."""


class HostLayout(Strict):
    """A network that is not ours: how it is built again, and where its coarse logits and fine maps are.

    Without a family the network is our own pyramid. Nothing in it is code: families are a table of this package.
    """

    family: Text | None = Field(None, description="of `models.hosts.families`; own: given when a file is loaded")
    name: str = Field("", max_length=200, description="of the network in its family")
    arguments: HostArguments = Field(default_factory=dict, description="of the family's builder")
    coarse: Path = Field("", description="the module that gives the coarse logits; none: the network itself")
    coarse_channels: int = Field(0, ge=0, le=2**16, description="of a map that a new layer makes logits of; 0: none")
    geometry: Literal["centers", "corners"] = Field("centers", description="how the coarse grid lies in the image")
    stride: float = Field(4, gt=1, le=1024, description="of the coarse logits")
    fine: Annotated[tuple[Path, ...], Field(max_length=8)] = Field((), description="modules whose maps points read")
    fine_channels: Annotated[tuple[Annotated[int, Field(ge=1, le=2**16)], ...], Field(max_length=8)] = ()
    auxiliary: Annotated[tuple[Path, ...], Field(max_length=8)] = Field(
        (), description="modules that give further logits of the classes, which are for training alone"
    )
    stem: bool = Field(False, description="points read a small trained stem too, at strides 2 and 4")
    frozen: bool = Field(False, description="the network is not trained")
    probabilities: bool = Field(False, description="the network gives probabilities, of which logits are made")
    multi_label: bool = Field(False, description="classes do not exclude each other: each logit is a sigmoid's")
    pool: int = Field(1, ge=1, le=64, description="the network's own logits are averaged over squares of this side")
    size: tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]] | None = Field(
        None,
        description="(H, W) to which images are stretched for a network of one size, but not for the stem",
    )
    multiple: int = Field(1, ge=1, le=1024, description="input sizes must be multiples of this")


class SemanticArchitecture(PyramidArchitecture):
    """The numbers of a `SemanticPointRend` but for its number of logits; the defaults are the published ones."""

    host: HostLayout = HostLayout()

    backbone: Text = "resnet50c"
    fine_strides: Annotated[tuple[int, ...], Field(max_length=8), AfterValidator(_levels_or_early)] = Field(
        (4,), description="of the maps that points read: 2 is the backbone's own map, the others levels of the pyramid"
    )
    coarse_channels: Width = 128
    coarse_norm: Literal["batch", "group"] = "batch"
    context: int = Field(
        0,
        ge=0,
        le=16,
        description="number of blocks of 9x9 kernels over the map at stride 32, which see far",
    )
    point: PointArchitecture = PointArchitecture()

    @model_validator(mode="after")
    def _context_on_our_pyramid(self) -> Self:
        if self.context and self.host.family is not None:
            raise ValueError("context is for our own pyramid, not for hosts: set it to 0")
        return self


class RefinerArchitecture(Strict):
    """The numbers of a `MaskRefiner`."""

    backbone: Text = Field("tf_efficientnet_lite0", description="a model of timm with features at strides 2 to 16")
    pyramid_channels: Width = Field(48, multiple_of=8)
    stem_channels: Width = Field(16, description="of two convolutions at full resolution")
    point: PointArchitecture = PointArchitecture(hidden=96, normalize=True, padding="border")


class InstanceArchitecture(PyramidArchitecture):
    """The numbers of an `InstancePointRend` but for its number of classes; the defaults are the published ones."""

    anchor_sizes: Annotated[tuple[tuple[AnchorSize, ...], ...], Field(min_length=5, max_length=5)] = Field(
        ((32,), (64,), (128,), (256,), (512,)), description="in pixels of the input, of each of the five levels"
    )
    anchor_ratios: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=32)] = Field(
        (0.5, 1.0, 2.0), description="height to width"
    )
    box_hidden: Width = 1024
    box_canonical_size: float = Field(224, ge=1, le=1e5, description="a box of this size is read at stride 16")
    mask: MaskArchitecture = MaskArchitecture()

    @field_validator("anchor_sizes")
    @classmethod
    def _equally_many(cls, sizes: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if not 1 <= len(sizes[0]) <= 32 or len({len(level) for level in sizes}) > 1:
            raise ValueError("expected as many sizes for each of the five levels")
        return sizes


class Detection(Strict):
    """How an instance network finds boxes."""

    proposals_per_level: int = Field(1000, ge=1, le=100_000, description="go into non-maximum suppression")
    max_proposals: int = Field(1000, ge=1, le=MAX_PROPOSALS, description="come out of it, of all levels")
    proposal_nms: float = Field(0.7, gt=0, le=1, description="IoU above which the worse of two proposals is dropped")
    score_threshold: float = Field(0.05, ge=0, lt=1, description="probabilities must be above it")
    nms: float = Field(0.5, gt=0, le=1, description="IoU above which the worse of two boxes of a class is dropped")
    max_detections: int = Field(100, ge=1, le=65535, description="the best of all classes in an image")
