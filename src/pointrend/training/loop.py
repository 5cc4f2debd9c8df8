"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from pointrend.data import IterationBatchSampler
from pointrend.evaluation import Evaluation, evaluate
from pointrend.files import remove_temporary_files, write_atomically
from pointrend.peak import peak, reset_peak
from pointrend.progress import TrainingProgress
from pointrend.recipes import TrainSettings
from pointrend.spec import TrainingFacts
from pointrend.training.checkpoint import CheckpointError, TrainingState, load_checkpoint, save_checkpoint
from pointrend.training.curves import draw_curves
from pointrend.training.environment import record_start
from pointrend.training.freeze import freeze_backbone
from pointrend.training.initial import load_start_weights
from pointrend.training.log import SCORE, RunLog
from pointrend.training.optim import build_optimizer, build_schedule
from pointrend.training.precision import depthwise_in_float32
from pointrend.training.prepare import BEST_MODEL, LAST_MODEL, RESUME_FILE, Training, check_sizes
from pointrend.training.recipe import RecipeError, different_keys, from_yaml, to_yaml
from pointrend.training.samples import SAMPLES_FOLDER, save_samples
from pointrend.zoo import Model, save_model

SHOWN = 3
"""The number of scores per row that are printed after an evaluation."""


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    iteration: int
    model: Path
    """The best model, or the last one if there was no evaluation."""
    scores: Evaluation | None
    """The last evaluation."""


def train_prepared(training: Training, out: Path, *, resume: bool = False, stop_after: int | None = None) -> Outcome:
    """Train a model; write `last` and `best` model files, the checkpoint, logs and the recipe to `out`.

    Args:
        training: the recipe and the splits.
        out: the run's folder.
        resume: continue from `out/last.pt`, exactly as if there had been no interruption.
        stop_after: the number of iterations after which to stop; the training can be resumed.

    Raises:
        RecipeError: the device is not available, or there are no weights to start from.
        DatasetError: the network takes no images of the size of crops.
        CheckpointError: nothing to resume from, or a checkpoint with other settings; the run is left unchanged.
        FloatingPointError: the loss or the weights are not finite; the last good checkpoint is kept.
    """
    recipe = training.recipe
    settings: TrainSettings = recipe.train
    fabric = _fabric(settings)
    fabric.launch()
    torch.manual_seed(settings.seed)
    network: Any = training.new_network()
    check_sizes(network, recipe)
    if not resume:
        load_start_weights(network, training)
    freeze_backbone(network.backbone, norm=recipe.start.freeze_norm, stages=recipe.start.freeze_stages)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if settings.precision == "bf16-mixed" and fabric.device.type == "cpu":
        depthwise_in_float32(network)
    optimizer = build_optimizer(network, recipe.optim)
    average = averaged(network, recipe.optim.ema) if recipe.optim.ema else None
    run = _Run(fabric, training, network, optimizer, average, out)
    if resume:
        run.restore(load_checkpoint(out / RESUME_FILE))
    if fabric.is_global_zero:
        remove_temporary_files(out)
        write_atomically(out / "recipe.yaml", to_yaml(recipe).encode())
        record_start(
            out,
            iteration=run.iteration,
            device=fabric.device,
            processes=fabric.world_size,
            precision=settings.precision,
        )
    end = min(settings.iterations, stop_after or settings.iterations)

    schedule = build_schedule(optimizer, recipe.optim, total=settings.iterations, iteration=run.iteration)
    objective = fabric.setup_module(training.task.objective(network, recipe, training.train_samples))
    stepper = fabric.setup_optimizers(optimizer)
    assert not isinstance(stepper, tuple)  # as one optimiser was given
    batches = _batches(settings, training, fabric, start=run.iteration)
    log = RunLog(out, recipe, iteration=run.iteration) if fabric.is_global_zero else None
    with (
        log or nullcontext(),
        TrainingProgress(
            settings.iterations, run.iteration, line_every=10 * settings.log_every, enabled=fabric.is_global_zero
        ) as progress,
    ):
        clock = _Clock(settings.batch_size)
        reset_peak(fabric.device)
        while run.iteration < end:
            rate = max(float(rate) for rate in schedule.get_last_lr())
            batch = next(batches)
            seed = _step_seed(settings.seed, run.iteration, fabric.global_rank)
            torch.manual_seed(seed)  # for dropout, and torchvision's choice of proposals
            losses = objective(batch, seed)
            fabric.backward(losses.total)
            if recipe.optim.clip_norm:
                norm = fabric.clip_gradients(
                    objective, stepper, max_norm=recipe.optim.clip_norm, error_if_nonfinite=False
                )
                assert norm is not None
                _check_finite(float(norm), run.iteration + 1, "norm of the gradients")
            stepper.step()
            schedule.step()
            optimizer.zero_grad()
            run.step_done()

            clock.tick()
            done = run.iteration
            progress.advance(done)
            evaluates = run.evaluates_now()
            saves = evaluates or done % settings.save_every == 0 or done == end
            numbers: dict[str, float] = {}
            if saves or done % settings.log_every == 0:
                numbers = _numbers(losses._asdict(), rate, clock)
                if memory := peak(fabric.device):
                    numbers["peak_memory_gb"] = memory.bytes / 1e9
                _check_finite(numbers["loss"], done)
                progress.update(done, numbers)
            if evaluates:
                numbers |= run.evaluate(progress.note)
                clock.reset()
            if log and numbers:
                log.write(done, numbers)
            if log and (evaluates or done == end):
                draw_curves(out, title=recipe.name, score=training.task.main_score)
            if saves:
                run.save()
    best = out / BEST_MODEL
    return Outcome(run.iteration, best if best.exists() else out / LAST_MODEL, run.scores)


@dataclass(eq=False)
class _Run:
    """The state of a training, which it evaluates, saves and restores."""

    fabric: Fabric
    training: Training
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    out: Path
    iteration: int = 0
    best: float = -math.inf
    scores: Evaluation | None = None

    @property
    def result(self) -> Model:
        """Return the model to evaluate and save, with the averaged weights if there are any."""
        network = self.network if self.average is None else self.average.module
        memory = peak(self.fabric.device)
        facts = TrainingFacts(
            crop=getattr(self.training.recipe.augment, "crop", None),
            iterations=self.iteration,
            peak_memory=None if memory is None else memory.bytes,
        )
        return Model(network, self.training.spec.model_copy(update={"training": facts}))

    def evaluates_now(self) -> bool:
        """Return whether an evaluation is due."""
        settings = self.training.recipe.train
        due = self.iteration % settings.eval_every == 0 or self.iteration == settings.iterations
        return due and self.training.val_samples is not None

    def step_done(self) -> None:
        self.iteration += 1
        if self.average is not None:
            self.average.update_parameters(self.network)

    def evaluate(self, note: Callable[[str], None]) -> dict[str, float]:
        """Score the model in the first process, while the others wait; save it if it is the best so far."""
        values: dict[str, float] = {}
        if self.fabric.is_global_zero:
            assert self.training.val_samples is not None
            limit = self.training.recipe.train.eval_images
            self.scores = evaluate(self.result, self.training.val_samples, limit=limit)
            for row, numbers in self.scores.rows.items():
                values |= {f"val/{row}/{name}": value for name, value in numbers.items() if "/" not in name}
                shown = list(self.scores.headline.items())[:SHOWN]
                listed = "  ".join(f"{title} {numbers[name]:5.2f}" for name, title in shown)
                note(f"iteration {self.iteration}  {row:9s}  {listed}")
            *_, last = self.scores.rows.values()
            score = values[SCORE] = last[self.training.task.main_score]
            score = -1.0 if math.isnan(score) else score
            if score > self.best:
                self.best = score
                save_model(self.result, self.out / BEST_MODEL)
            picture = self.out / SAMPLES_FOLDER / f"{self.iteration:06d}.png"
            save_samples(self.result, self.training.val_samples, picture)
        self.fabric.barrier()
        return values

    def save(self) -> None:
        """Write the checkpoint and the model; raise instead of overwriting them if the weights are not finite."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            _check_finite(math.nan, self.iteration)
        if self.fabric.is_global_zero:
            state = TrainingState(
                recipe=to_yaml(self.training.recipe),
                iteration=self.iteration,
                best=self.best,
                network=self.network.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.state_dict() if self.average is not None else None,
            )
            save_checkpoint(self.out / RESUME_FILE, state)
            save_model(self.result, self.out / LAST_MODEL)
        self.fabric.barrier()

    def restore(self, state: TrainingState) -> None:
        if different := different_keys(from_yaml(state.recipe), self.training.recipe):
            raise CheckpointError(
                f"{self.out / RESUME_FILE}: has other settings ({', '.join(different)}); "
                f"resume with the recipe {self.out / 'recipe.yaml'} and without --set"
            )
        iterations = self.training.recipe.train.iterations
        if state.iteration > iterations:
            raise CheckpointError(
                f"{self.out / RESUME_FILE}: has done {state.iteration} iterations; train.iterations must be at least "
                f"that, got {iterations}"
            )
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        if self.average is not None:
            assert state.average is not None
            self.average.load_state_dict(state.average)
        self.iteration = state.iteration
        self.best = state.best


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a network of exponential moving averages of weights and batch statistics."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def _batches(settings: TrainSettings, training: Training, fabric: Fabric, *, start: int) -> Iterator[Any]:
    if settings.batch_size % fabric.world_size:
        raise RecipeError(
            f"train.batch_size must be a multiple of the {fabric.world_size} processes, got {settings.batch_size}"
        )
    sampler = IterationBatchSampler(
        training.count,
        batch_size=settings.batch_size // fabric.world_size,
        seed=settings.seed,
        iterations=settings.iterations,
        start_iteration=start,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        repeats=training.repeats,
    )
    loader = DataLoader(
        training.dataset(),
        batch_sampler=sampler,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
        collate_fn=training.task.collate,
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
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0]) >> 1


def _numbers(losses: Mapping[str, torch.Tensor], rate: float, clock: _Clock) -> dict[str, float]:
    parts = {name: float(value.detach()) for name, value in losses.items()}
    total, accuracy = parts.pop("total"), parts.pop("accuracy")
    return {
        "loss": total,
        **{f"loss_{name}": value for name, value in parts.items()},
        "point_accuracy": accuracy,
        "lr": rate,
        "images_per_second": clock.rate(),
    }


class _Clock:
    """A measurement of images per second since the last call of `rate` or `reset`."""

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
