"""The processes of a training: as many as the recipe says, or as a launcher (torchrun, SLURM's srun) started."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException

from pointrend.errors import PointRendError
from pointrend.recipes import TrainSettings
from pointrend.training.recipe import RecipeError


@dataclass(frozen=True)
class Launch:
    """Processes that a launcher started."""

    launcher: str
    devices: int
    """The number of processes on each node."""
    nodes: int


def launched() -> Launch | None:
    """Return what a launcher started, from its environment variables; None without one.

    Raises:
        PointRendError: the nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _of("torchrun", os.environ["WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"])
    # As Fabric does: in an interactive session the variables are there, but srun did not start this process.
    if (
        "SLURM_NTASKS" in os.environ
        and "SLURM_PROCID" in os.environ
        and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive")
    ):
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        if tasks % nodes:
            raise PointRendError(
                f"srun started {tasks} processes on {nodes} nodes: start as many on each (--ntasks-per-node)"
            )
        return Launch("srun", tasks // nodes, nodes)
    return None


def _of(launcher: str, total: str, local: str) -> Launch:
    devices, rest = divmod(int(total), int(local))
    if rest:
        raise PointRendError(f"{launcher} started {total} processes, {local} of them here: start as many on each node")
    return Launch(launcher, int(local), devices)


def is_first() -> bool:
    """Return whether this process reports for all; it is known before the processes are joined."""
    for name in ("RANK", "SLURM_PROCID") if launched() else ():
        if name in os.environ:
            return os.environ[name] == "0"
    # Fabric starts the further processes of a node with a LOCAL_RANK.
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def joined(settings: TrainSettings) -> Fabric:
    """Start or join the processes of a training.

    Raises:
        RecipeError: the recipe has another number of devices or nodes than the launcher, several nodes and no launcher,
            a device that is not available, or a batch size that the processes cannot share.
    """
    launch = launched()
    own = (None, None) if launch is None else (launch.devices, launch.nodes)
    for name, value, started in zip(("devices", "nodes"), (settings.devices, settings.nodes), own, strict=True):
        if launch is not None and value not in (None, started):
            raise RecipeError(
                f"{launch.launcher} started {_amount(launch.devices, 'process')} on each of "
                f"{_amount(launch.nodes, 'node')}, but train.{name} is {value}: leave it out, or make them equal"
            )
    if launch is None:
        launch = Launch("", settings.devices or 1, settings.nodes or 1)
        if launch.nodes > 1 and "MASTER_ADDR" not in os.environ:
            raise RecipeError(
                f"train.nodes is {launch.nodes}: start the command on every node by torchrun or srun (docs/training.md)"
            )
    try:
        # Each process keeps its own statistics of batch norms; they are averaged when they are needed.
        several = launch.devices * launch.nodes > 1
        fabric = Fabric(
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            accelerator=settings.accelerator,
            devices=launch.devices,
            num_nodes=launch.nodes,
            precision=settings.precision,
        )
        fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(
            f"train.accelerator={settings.accelerator} with train.devices={launch.devices} and "
            f"train.precision={settings.precision} is not available here ({reason})"
        ) from error
    parts = fabric.world_size * settings.accumulate
    if settings.batch_size % parts:
        steps = f" times train.accumulate={settings.accumulate}" if settings.accumulate > 1 else ""
        raise RecipeError(
            f"train.batch_size must be a multiple of the {_amount(fabric.world_size, 'process')}{steps}, "
            f"got {settings.batch_size}"
        )
    return fabric


def _amount(count: int, what: str) -> str:
    plural = {"process": "processes", "node": "nodes"}[what]
    return f"{count} {what if count == 1 else plural}"
