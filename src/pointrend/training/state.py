"""The state of a training, which it evaluates, saves and restores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pointrend.errors import warn
from pointrend.evaluation import Evaluation, evaluate
from pointrend.peak import peak
from pointrend.processes import Processes
from pointrend.spec import TrainingFacts
from pointrend.training.checkpoint import CheckpointError, TrainingState, save_checkpoint
from pointrend.training.compiling import not_compiled
from pointrend.training.log import SCORE
from pointrend.training.prepare import BEST_MODEL, LAST_MODEL, RESUME_FILE, Training
from pointrend.training.recipe import different_keys, from_yaml, to_yaml
from pointrend.training.samples import SAMPLES_FOLDER, save_samples
from pointrend.training.sync_norm import average_statistics
from pointrend.zoo import Model, save_model

Tensors = tuple[Tensor, ...] | list[Tensor]
SHOWN = 3
"""The number of scores per row that are printed after an evaluation."""


@dataclass(eq=False)
class Run:
    """The state of a training; all processes call its methods, and the first one writes."""

    fabric: Fabric
    training: Training
    network: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    out: Path
    iteration: int = 0
    best: float = -math.inf
    scores: Evaluation | None = None
    owed: dict[str, float] | None = None
    """The numbers of an iteration whose evaluation is still to be done."""

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
        """Count an iteration, and average its weights."""
        self.iteration += 1
        if self.average is not None:
            self.average.update_parameters(self.network)

    def evaluate(self, note: Callable[[str], None]) -> dict[str, float]:
        """Score the model, each process on its images, and save it if it is the best so far."""
        self._agree()
        assert self.training.val_samples is not None
        processes = Processes(self.fabric.global_rank, self.fabric.world_size)
        limit = self.training.recipe.train.eval_images
        with not_compiled():
            self.scores = evaluate(self.result, self.training.val_samples, limit=limit, processes=processes)
        values: dict[str, float] = {}
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
            if self.fabric.is_global_zero:
                save_model(self.result, self.out / BEST_MODEL)
        if self.fabric.is_global_zero:
            picture = self.out / SAMPLES_FOLDER / f"{self.iteration:06d}.png"
            with not_compiled():
                save_samples(self.result, self.training.val_samples, picture)
        self.fabric.barrier()
        return values

    def save(self) -> None:
        """Write the checkpoint and the model; raise instead of overwriting them if the weights are not finite."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            check_finite(math.nan, self.iteration)
        self._agree()
        if self.fabric.is_global_zero:
            state = TrainingState(
                recipe=to_yaml(self.training.recipe),
                iteration=self.iteration,
                best=self.best,
                network=self.network.state_dict(),
                optimizer=self.optimizer.state_dict(),
                average=self.average.state_dict() if self.average is not None else None,
                processes=self.fabric.world_size,
                precision=self.fabric.strategy.precision.state_dict(),
                owed=self.owed,
            )
            save_checkpoint(self.out / RESUME_FILE, state, keep=self.training.recipe.train.keep)
            save_model(self.result, self.out / LAST_MODEL)
        self.fabric.barrier()

    def restore(self, state: TrainingState) -> None:
        """Take over the state of a checkpoint.

        Raises:
            CheckpointError: it has other settings, or more iterations.
        """
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
        if state.processes != self.fabric.world_size:
            warn(
                f"the training had {state.processes} processes and goes on with {self.fabric.world_size}: its batches "
                "stay the same, its points are drawn anew"
            )
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        if self.average is not None:
            assert state.average is not None
            self.average.load_state_dict(state.average)
        if state.precision:
            self.fabric.strategy.precision.load_state_dict(state.precision)
        self.iteration, self.best, self.owed = state.iteration, state.best, state.owed

    def _agree(self) -> None:
        """Give the running statistics of batch norms in all processes the same values."""
        for network in (self.network, self.average):
            if network is not None:
                average_statistics(network)


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """Return a network of exponential moving averages of weights and batch statistics.

    After n updates the decay is at most (1 + n) / (10 + n), so that the average of a short training is not mostly the
    weights it started from.
    """

    def update(average: Tensors, current: Tensors, updates: Tensor | int) -> None:
        number = int(updates)
        at_most = (1 + number) / (10 + number)
        get_ema_multi_avg_fn(min(decay, at_most))(average, current, updates)  # type: ignore[no-untyped-call]

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def check_finite(value: float, iteration: int, what: str = "loss") -> None:
    """Raise `FloatingPointError` if a number of an iteration is not finite."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {what} is {value} at iteration {iteration}: try a lower optim.lr, or optim.clip_norm=1"
        )
