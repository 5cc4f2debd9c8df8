"""The settings of a training. Classes of sections that other modules use are defined there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from pointrend.data.settings import InputSpec, InstanceAugment, MaskAugment, MaskDataSettings, SemanticAugment
from pointrend.models.settings import InstanceArchitecture, RefinerArchitecture, SemanticArchitecture
from pointrend.objectives import InstanceLoss, RefinerLoss, SemanticLoss
from pointrend.spec import InstanceTest, RefinerTest, SemanticTest
from pointrend.strict import Strict


class StartSettings(Strict):
    """The backbone's initial weights and frozen parts."""

    weights: str = Field(
        "imagenet",
        min_length=1,
        description="initial weights: imagenet (of the backbone), none, or the name or file of a model",
    )
    freeze: Literal["nothing", "backbone", "host"] = Field(
        "nothing", description="what keeps its weights; the host is the network that PointRend was attached to"
    )
    freeze_norm: bool = Field(False, description="freeze statistics and weights of the backbone's batch norms")
    freeze_stages: int = Field(
        0, ge=0, le=5, description="number of frozen stages of the backbone; 2: stem and first stage"
    )


class DataSettings(Strict):
    """The data set's layout and the names of its splits."""

    layout: str | None = Field(None, description="None: detected from the folders")
    train: str = "train"
    val: str = "val"
    skip_bad: bool = Field(False, description="leave out images and objects that cannot be used, instead of stopping")
    max_bad: int = Field(
        0, ge=0, description="the number of images that may turn out unreadable while training; others take their place"
    )
    allow_empty_classes: bool = Field(False, description="train although a class occurs in no image")


class InstanceDataSettings(DataSettings):
    """The data set's layout and the names of its splits, and which images instances are learned from."""

    skip_empty: bool = Field(False, description="leave images without objects (crowds do not count) out of training")


class OptimSettings(Strict):
    """The optimiser and its schedule: linear warmup, then polynomial decay, or steps if given."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.01, gt=0)
    backbone_lr: float | None = Field(None, gt=0, description="None: lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD only")
    weight_decay: float = Field(5e-4, ge=0, description="adamw does not decay norms and biases")
    norm_weight_decay: float | None = Field(
        None, ge=0, description="of the weights and biases of norms; None: the same"
    )
    warmup: int = Field(0, ge=0, description="iterations")
    steps: tuple[PositiveInt, ...] = Field((), description="iterations at which lr is multiplied by `gamma`")
    gamma: float = Field(0.1, gt=0, le=1)
    power: float = Field(0.9, gt=0, description="exponent of the polynomial decay")
    min_lr: float = Field(1e-4, ge=0, le=1, description="final factor of lr")
    clip_norm: float = Field(0.0, ge=0, description="maximum norm of the gradients; 0: off")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights, which are saved; 0: off")


class TrainSettings(Strict):
    """The length, hardware and output of a training."""

    iterations: int = Field(80_000, ge=1)
    batch_size: int = Field(8, ge=1, description="images an iteration, of all processes and parts together")
    seed: int = Field(0, ge=0)
    workers: int = Field(2, ge=0, description="processes that read data, for each training process")
    eval_every: int = Field(4000, ge=1)
    eval_images: int | None = Field(None, ge=1, description="number of images of val to evaluate; None: all")
    save_every: int = Field(1000, ge=1)
    log_every: int = Field(20, ge=1)
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",), description="what takes the numbers of log.csv, which is always written, too"
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["cpu", "cuda", "mps", "auto"] = "cpu"
    devices: int | None = Field(None, ge=1, description="processes on each node; None: the launcher's, or 1")
    nodes: int | None = Field(None, ge=1, description="None: the launcher's (torchrun, srun), or 1")
    accumulate: int = Field(1, ge=1, description="a batch is computed in so many parts, to need less memory")
    sync_norm: bool = Field(False, description="batch norms see the batches of all processes (SyncBN)")
    keep: int = Field(2, ge=1, le=100, description="the number of newest checkpoints that are kept")
    channels_last: bool = True
    compile: bool = Field(
        False, description="compile the encoder by torch.compile: takes minutes at first, and steps may get faster"
    )


class Recipe(Strict):
    """The settings of a training for any task. The number of classes is that of the data."""

    name: str
    task: str
    description: str = ""
    start: StartSettings = StartSettings()
    data: DataSettings = DataSettings()
    input: InputSpec = InputSpec()
    optim: OptimSettings = OptimSettings()
    train: TrainSettings = TrainSettings()


class SemanticRecipe(Recipe):
    """The settings of a training for semantic segmentation."""

    task: Literal["semantic"] = "semantic"
    model: SemanticArchitecture = SemanticArchitecture()
    augment: SemanticAugment = SemanticAugment()
    loss: SemanticLoss = SemanticLoss()
    test: SemanticTest = SemanticTest()


class MultiLabelRecipe(SemanticRecipe):
    """The settings of a training of classes that do not exclude each other."""

    task: Literal["multi-label"] = "multi-label"  # type: ignore[assignment]  # all else is as in semantic models


class InstanceRecipe(Recipe):
    """The settings of a training for instance segmentation."""

    task: Literal["instance"] = "instance"
    data: InstanceDataSettings = InstanceDataSettings()
    model: InstanceArchitecture = InstanceArchitecture()
    augment: InstanceAugment = InstanceAugment()
    loss: InstanceLoss = InstanceLoss()
    test: InstanceTest = InstanceTest()


class RefinerRecipe(Recipe):
    """The settings of a training for the refinement of masks."""

    task: Literal["refinement"] = "refinement"
    data: MaskDataSettings = MaskDataSettings()  # type: ignore[assignment]  # of another kind: windows are drawn, there is no split
    model: RefinerArchitecture = RefinerArchitecture()
    augment: MaskAugment = MaskAugment()
    loss: RefinerLoss = RefinerLoss()
    test: RefinerTest = RefinerTest()
