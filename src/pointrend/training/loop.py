"""The training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from pointrend.evaluation import Evaluation
from pointrend.files import remove_temporary_files, write_atomically
from pointrend.peak import peak, reset_peak
from pointrend.processes import mean_over_processes
from pointrend.progress import TrainingProgress
from pointrend.recipes import TrainSettings
from pointrend.training.bad_batch import write_batch
from pointrend.training.batches import batches, dead_readers_named
from pointrend.training.checkpoint import load_newest
from pointrend.training.curves import draw_curves
from pointrend.training.environment import record_start
from pointrend.training.launch import joined
from pointrend.training.log import RunLog
from pointrend.training.optim import build_optimizer, build_schedule
from pointrend.training.prepare import BEST_MODEL, LAST_MODEL, RESUME_FILE, Training
from pointrend.training.recipe import to_yaml
from pointrend.training.starting import starting_network
from pointrend.training.state import Run, averaged, check_finite
from pointrend.training.stopping import sigterm_noticed


@dataclass(frozen=True)
class Outcome:
    """The result of a training."""

    iteration: int
    model: Path
    """The best model, or the last one if there was no evaluation."""
    scores: Evaluation | None
    """The last evaluation."""
    stopped: bool = False
    """By SIGTERM, before its end; it can be resumed."""


def train_prepared(training: Training, out: Path, *, resume: bool = False, stop_after: int | None = None) -> Outcome:
    """Train a model; write `last` and `best` model files, checkpoints, logs and the recipe to `out`.

    Processes that torchrun or srun started share the training; SIGTERM ends it after an iteration, saved.

    Args:
        training: the recipe and the splits.
        out: the run's folder; of several nodes, one that all see.
        resume: continue from the newest checkpoint in `out`, exactly as if there had been no interruption.
        stop_after: the number of iterations after which to stop; the training can be resumed.

    Raises:
        RecipeError: the device is not available, the launcher started other processes than the recipe says, or there
            are no weights to start from.
        DatasetError: the network takes no images of the size of crops, or images cannot be read.
        CheckpointError: nothing to resume from, or a checkpoint with other settings; the run is left unchanged.
        FloatingPointError: the loss or the weights are not finite; the last good checkpoint is kept.
    """
    recipe = training.recipe
    settings: TrainSettings = recipe.train
    fabric = joined(settings)
    network = starting_network(training, fabric, resume=resume)
    optimizer = build_optimizer(network, recipe.optim)
    average = averaged(network, recipe.optim.ema) if recipe.optim.ema else None
    run = Run(fabric, training, network, optimizer, average, out)
    if resume:
        run.restore(load_newest(out / RESUME_FILE, set_aside=fabric.is_global_zero))
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
    step = _Step(fabric, settings, training.task.objective(network, recipe, training.train_samples))
    stepper = fabric.setup_optimizers(optimizer)
    assert not isinstance(stepper, tuple)  # as one optimiser was given
    log = RunLog(out, recipe, iteration=run.iteration) if fabric.is_global_zero else None
    with (
        dead_readers_named(),
        sigterm_noticed(fabric.device) as sigterm,
        log or nullcontext(),
        TrainingProgress(
            settings.iterations, run.iteration, line_every=10 * settings.log_every, enabled=fabric.is_global_zero
        ) as progress,
        closing(batches(training, fabric, start=run.iteration)) as parts,
    ):
        clock = _Clock(settings.batch_size)
        reset_peak(fabric.device)
        stopped = False
        if run.owed is not None:
            numbers = run.owed | run.evaluate(progress.note)
            run.owed = None
            if log:
                log.write(run.iteration, numbers)
                draw_curves(out, title=recipe.name, score=training.task.main_score)
            run.save()
        while run.iteration < end and not stopped:
            rate = max(float(rate) for rate in schedule.get_last_lr())
            with clock.waiting():
                batch = [next(parts) for _ in range(settings.accumulate)]
            losses = step.backward(batch, run.iteration)
            try:
                check_finite(float(losses["total"]), run.iteration + 1)
                if recipe.optim.clip_norm:
                    norm = fabric.clip_gradients(
                        step.objective, stepper, max_norm=recipe.optim.clip_norm, error_if_nonfinite=False
                    )
                    assert norm is not None
                    if settings.precision != "16-mixed":  # which finds its scale by gradients that overflow
                        check_finite(float(norm), run.iteration + 1, "norm of the gradients")
            except FloatingPointError as error:
                picture = write_batch(batch, out, f"{run.iteration + 1}-{fabric.global_rank}", recipe.input)
                raise FloatingPointError(f"{error}; the batch is in {picture}, and as .safetensors") from None
            stepper.step()
            schedule.step()
            optimizer.zero_grad()
            run.step_done()

            clock.tick()
            done = run.iteration
            stopped = sigterm()
            progress.advance(done)
            due = run.evaluates_now()
            evaluates = due and not stopped  # there may be seconds left: resumed, it evaluates first
            saves = due or stopped or done % settings.save_every == 0 or done == end
            numbers = {}
            if saves or done % settings.log_every == 0:
                numbers = _numbers(losses, rate, clock)
                if memory := peak(fabric.device):
                    numbers["peak_memory_gb"] = memory.bytes / 1e9
                progress.update(done, numbers)
            if evaluates:
                numbers |= run.evaluate(progress.note)
                clock.reset()
            run.owed = numbers if due and stopped else None
            if log and numbers and run.owed is None:
                log.write(done, numbers)
            if log and (evaluates or done == end):
                draw_curves(out, title=recipe.name, score=training.task.main_score)
            if saves:
                run.save()
    best = out / BEST_MODEL
    model = best if best.exists() else out / LAST_MODEL
    return Outcome(run.iteration, model, run.scores, stopped=stopped and (run.iteration < end or run.owed is not None))


class _Step:
    """The losses and gradients of a batch, in one or several parts."""

    def __init__(self, fabric: Fabric, settings: TrainSettings, objective: Any) -> None:
        self.fabric = fabric
        self.settings = settings
        with warnings.catch_warnings():  # of the name of an argument that Fabric gives to PyTorch
            warnings.filterwarnings("ignore", message=".*broadcast_buffers.* is deprecated")
            self.objective = fabric.setup_module(objective)
        self._plain = objective

    def backward(self, parts: Sequence[Any], iteration: int) -> dict[str, Tensor]:
        """Add the gradients of all parts, and return the losses of the whole batch in all processes."""
        weights = self._weights(parts)
        total: dict[str, Tensor] = {}
        for index, (batch, weight) in enumerate(zip(parts, weights, strict=True)):
            number = iteration * len(parts) + index
            seed = _step_seed(self.settings.seed, number, self.fabric.global_rank)
            torch.manual_seed(seed)  # for dropout, and torchvision's choice of proposals
            with self.fabric.no_backward_sync(self.objective, enabled=index + 1 < len(parts)):
                losses = self.objective(batch, seed)
                self.fabric.backward(losses.total if len(parts) == 1 else losses.total * weight)
            for name, value in losses._asdict().items():
                total[name] = total.get(name, 0.0) + value.detach() * weight
        return dict(zip(total, mean_over_processes(torch.stack(list(total.values())).float()), strict=True))

    def _weights(self, parts: Sequence[Any]) -> list[float]:
        """Return the weight of each part: its share of what the batch's losses are averaged over."""
        if len(parts) == 1:
            return [1.0]
        counts = mean_over_processes(torch.stack([self._plain.counted(batch) for batch in parts]).double())
        return (counts / counts.sum().clamp(min=1)).tolist()


def _step_seed(seed: int, iteration: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1, np.uint64)[0]) >> 1


def _numbers(losses: Mapping[str, Tensor], rate: float, clock: _Clock) -> dict[str, float]:
    parts = {name: float(value) for name, value in losses.items()}
    total, accuracy = parts.pop("total"), parts.pop("accuracy")
    return {
        "loss": total,
        **{f"loss_{name}": value for name, value in parts.items()},
        "point_accuracy": accuracy,
        "lr": rate,
        **clock.numbers(),
    }


class _Clock:
    """A measurement of images per second, and of the share of time that was spent waiting for images.

    Both are since the last call of `numbers` or `reset`.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        self._images = 0
        self._waited = 0.0
        self._since = time.monotonic()

    def tick(self) -> None:
        self._images += self._batch_size

    @contextmanager
    def waiting(self) -> Iterator[None]:
        since = time.monotonic()
        yield
        self._waited += time.monotonic() - since

    def numbers(self) -> dict[str, float]:
        elapsed = max(1e-9, time.monotonic() - self._since)
        numbers = {"images_per_second": self._images / elapsed, "data_wait": self._waited / elapsed}
        self.reset()
        return numbers
