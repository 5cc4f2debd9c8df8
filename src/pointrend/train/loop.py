"""The training loop, to be read in one sitting. What is trained is a `Task`."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from pointrend.data import IterationBatchSampler
from pointrend.files import write_atomically
from pointrend.train.checkpoint import CheckpointError, TrainingState, load_checkpoint, save_checkpoint
from pointrend.train.initial import load_imagenet_weights
from pointrend.train.log import RunLog, TrainingProgress
from pointrend.train.optim import build_optimizer, lr_factor, set_lr
from pointrend.train.precision import depthwise_in_float32
from pointrend.train.recipe import RecipeError, TrainSettings, different_keys, from_yaml, to_yaml
from pointrend.train.task import Batch, Losses, Scores, Task
from pointrend.zoo.modelfile import save_model

RESUME_FILE = "last.pt"
LAST_MODEL = "last.safetensors"
BEST_MODEL = "best.safetensors"


@dataclass(frozen=True)
class Outcome:
    """Where a training ended."""

    iteration: int
    model: Path
    """The best model, or the last one if there was no evaluation."""
    scores: Scores | None
    """Of the last evaluation."""


def train(task: Task, out: Path, *, resume: bool = False, stop_after: int | None = None) -> Outcome:
    """Train a model; `out` gets `last` and `best` model files, the resumable state, logs and the recipe.

    Args:
        task: what is trained, on what, and by which recipe.
        out: the run's folder.
        resume: go on from `out/last.pt`, exactly as if there had been no interruption.
        stop_after: stop, resumably, when so many iterations are done.

    Raises:
        RecipeError: the device does not exist here, or there are no weights to start from.
        CheckpointError: nothing to resume from, or it was made with other settings; the run is left as it was.
        FloatingPointError: the loss or the weights are no longer finite; the last good checkpoint is kept.
    """
    recipe = task.recipe
    settings = recipe.train
    fabric = _fabric(settings)
    fabric.launch()
    torch.manual_seed(settings.seed)
    network = task.build()
    if recipe.model.weights == "imagenet" and not resume:
        load_imagenet_weights(network.backbone, recipe.model.backbone)
    task.freeze(network)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if settings.precision == "bf16-mixed" and fabric.device.type == "cpu":
        depthwise_in_float32(network)
    optimizer = build_optimizer(network, recipe.optim)
    run = _Run(fabric, task, network, optimizer, out)
    if resume:
        run.restore(load_checkpoint(out / RESUME_FILE))
    if fabric.is_global_zero:
        write_atomically(out / "recipe.yaml", to_yaml(recipe).encode())
    end = min(settings.iterations, stop_after or settings.iterations)

    objective = fabric.setup_module(task.objective(network))
    stepper = fabric.setup_optimizers(optimizer)
    assert not isinstance(stepper, tuple)  # one in, one out
    batches = _batches(settings, task, fabric, start=run.iteration)
    log = RunLog(out) if fabric.is_global_zero else None
    with (
        closing(log) if log else nullcontext(),
        TrainingProgress(
            settings.iterations, run.iteration, log_every=settings.log_every, enabled=fabric.is_global_zero
        ) as progress,
    ):
        clock = _Clock(settings.batch_size)
        while run.iteration < end:
            rate = set_lr(optimizer, lr_factor(run.iteration, settings.iterations, recipe.optim))
            batch = next(batches)
            seed = _step_seed(settings.seed, run.iteration, fabric.global_rank)
            torch.manual_seed(seed)  # for dropout, and torchvision's choice of proposals
            losses: Losses = objective(batch, seed)
            fabric.backward(losses.total)
            if recipe.optim.clip_norm:
                norm = fabric.clip_gradients(
                    objective, stepper, max_norm=recipe.optim.clip_norm, error_if_nonfinite=False
                )
                assert norm is not None
                _check_finite(float(norm), run.iteration + 1, "norm of the gradients")
            stepper.step()
            optimizer.zero_grad()
            run.step_done()

            clock.tick()
            done = run.iteration
            evaluates = task.evaluates and (done % settings.eval_every == 0 or done == settings.iterations)
            saves = evaluates or done % settings.save_every == 0 or done == end
            if saves or done % settings.log_every == 0:
                numbers = _numbers(losses, rate, clock)
                _check_finite(numbers["loss"], done)
                progress.update(done, numbers)
                if log:
                    log.write(done, numbers)
            if evaluates:
                scores = run.evaluate(progress.note)
                if log:
                    log.write(done, scores)
                clock.reset()
            if saves:
                run.save()
    best = out / BEST_MODEL
    return Outcome(run.iteration, best if best.exists() else out / LAST_MODEL, run.scores)


class _Run:
    """What changes while training, and how it is kept."""

    def __init__(
        self,
        fabric: Fabric,
        task: Task,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        out: Path,
    ) -> None:
        self.fabric = fabric
        self.recipe = task.recipe
        self.task = task
        self.network = network
        self.optimizer = optimizer
        self.out = out
        self.iteration = 0
        self.best = -math.inf
        self.scores: Scores | None = None
        decay = self.recipe.optim.ema
        self.average = averaged(network, decay) if decay else None

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and saved: the averaged one, if there is one."""
        return self.network if self.average is None else self.average.module

    def step_done(self) -> None:
        self.iteration += 1
        if self.average is not None:
            self.average.update_parameters(self.network)

    def evaluate(self, note: Callable[[str], None]) -> dict[str, float]:
        """Score the result; keep it if it is the best so far. Every process waits, the first one works."""
        values: dict[str, float] = {}
        if self.fabric.is_global_zero:
            # A copy, because a predictor changes its network's mode and memory format.
            self.scores = self.task.evaluate(copy.deepcopy(self.result), self.fabric.device)
            values = {f"val/{name}": value for name, value in self.scores.values.items()}
            for line in self.scores.lines:
                note(f"iteration {self.iteration}  {line}")
            if self.scores.main > self.best:
                self.best = self.scores.main
                save_model(self.out / BEST_MODEL, self.result.state_dict(), self.task.spec)
        self.fabric.barrier()
        return values

    def save(self) -> None:
        """Write what a resumption needs, and the result so far; never over a good one when the weights went bad."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            _check_finite(math.nan, self.iteration)
        if self.fabric.is_global_zero:
            state = TrainingState(
                recipe=to_yaml(self.recipe),
                iteration=self.iteration,
                best=self.best,
                network=self.network.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.state_dict() if self.average is not None else None,
            )
            save_checkpoint(self.out / RESUME_FILE, state)
            save_model(self.out / LAST_MODEL, self.result.state_dict(), self.task.spec)
        self.fabric.barrier()

    def restore(self, state: TrainingState) -> None:
        if different := different_keys(from_yaml(state.recipe), self.recipe):
            raise CheckpointError(
                f"{self.out / RESUME_FILE}: was made with other settings ({', '.join(different)}); "
                f"resume with the recipe {self.out / 'recipe.yaml'} and no --set"
            )
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        if self.average is not None:
            assert state.average is not None
            self.average.load_state_dict(state.average)
        self.iteration = state.iteration
        self.best = state.best


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch statistics."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def _batches(settings: TrainSettings, task: Task, fabric: Fabric, *, start: int) -> Iterator[Batch]:
    if settings.batch_size % fabric.world_size:
        raise ValueError(
            f"train.batch_size {settings.batch_size} cannot be shared by {fabric.world_size} processes: take a multiple"
        )
    sampler = IterationBatchSampler(
        task.num_images[0],
        batch_size=settings.batch_size // fabric.world_size,
        seed=settings.seed,
        iterations=settings.iterations,
        start_iteration=start,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        repeats=task.repeats,
    )
    loader = DataLoader(
        task.dataset(),
        batch_sampler=sampler,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
        collate_fn=task.collate,
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    for batch in loader:
        yield batch.to(fabric.device, layout)


def _check_finite(value: float, iteration: int, what: str = "loss") -> None:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {what} is {value} at iteration {iteration}: try a lower optim.lr, or optim.clip_norm=1"
        )


def _fabric(settings: TrainSettings) -> Fabric:
    try:
        return Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=settings.precision)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(
            f"train.accelerator={settings.accelerator} with train.devices={settings.devices} and "
            f"train.precision={settings.precision} is not available here ({reason})"
        ) from error


def _step_seed(seed: int, iteration: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0] >> 1)


def _numbers(losses: Losses, rate: float, clock: _Clock) -> dict[str, float]:
    parts = {name: float(value.detach()) for name, value in losses._asdict().items()}
    total, accuracy = parts.pop("total"), parts.pop("accuracy")
    return {
        "loss": total,
        **{f"loss_{name}": value for name, value in parts.items()},
        "point_accuracy": accuracy,
        "lr": rate,
        "images_per_second": clock.rate(),
    }


class _Clock:
    """Images a second since the last look."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        self._images = 0
        self._since = time.monotonic()

    def tick(self) -> None:
        self._images += self._batch_size

    def rate(self) -> float:
        rate = self._images / max(1e-9, time.monotonic() - self._since)
        self.reset()
        return rate
