"""The training loop, to be read in one sitting."""

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
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from pointrend.data import IGNORE, IterationBatchSampler, SampleSet, SemanticDataset, read_labels, train_transform
from pointrend.evaluate import Evaluation, evaluate
from pointrend.files import write_atomically
from pointrend.models import SemanticPointRend
from pointrend.predict import Predictor
from pointrend.train.checkpoint import CheckpointError, TrainingState, load_checkpoint, save_checkpoint
from pointrend.train.initial import load_imagenet_weights
from pointrend.train.log import RunLog, TrainingProgress
from pointrend.train.objective import SemanticLosses, SemanticObjective
from pointrend.train.optim import build_optimizer, lr_factor, set_lr
from pointrend.train.recipe import Recipe, RecipeError, TrainSettings, different_keys, from_yaml, to_yaml
from pointrend.zoo.modelfile import Model, build, save_model
from pointrend.zoo.spec import ModelSpec, SemanticArchitecture, num_logits

RESUME_FILE = "last.pt"
LAST_MODEL = "last.safetensors"
BEST_MODEL = "best.safetensors"


@dataclass(frozen=True)
class Outcome:
    """Where a training ended."""

    iteration: int
    model: Path
    """The best model, or the last one if there was no evaluation."""
    evaluation: Evaluation | None
    """The last one."""


def train(
    recipe: Recipe,
    train_samples: SampleSet,
    val_samples: SampleSet | None,
    out: Path,
    *,
    resume: bool = False,
    stop_after: int | None = None,
) -> Outcome:
    """Train a model; `out` gets `last` and `best` model files, the resumable state, logs and the recipe.

    Args:
        recipe: all settings.
        train_samples: what is trained on; already checked.
        val_samples: what is evaluated on; None never evaluates.
        out: the run's folder.
        resume: go on from `out/last.pt`, exactly as if there had been no interruption.
        stop_after: stop, resumably, when so many iterations are done.

    Raises:
        RecipeError: the device does not exist here, or there are no weights to start from.
        CheckpointError: nothing to resume from, or it was made with other settings; the run is left as it was.
        FloatingPointError: the loss or the weights are no longer finite; the last good checkpoint is kept.
    """
    settings = recipe.train
    fabric = _fabric(settings)
    fabric.launch()
    torch.manual_seed(settings.seed)
    spec = model_spec(recipe, train_samples)
    network = build(spec)
    if recipe.model.weights == "imagenet" and not resume:
        load_imagenet_weights(network.backbone, recipe.model.backbone)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, recipe.optim)
    run = _Run(fabric, recipe, spec, network, optimizer, out, val_samples)
    if resume:
        run.restore(load_checkpoint(out / RESUME_FILE))
    if fabric.is_global_zero:
        write_atomically(out / "recipe.yaml", to_yaml(recipe).encode())
    end = min(settings.iterations, stop_after or settings.iterations)

    objective = fabric.setup_module(_objective(network, recipe, train_samples))
    stepper = fabric.setup_optimizers(optimizer)
    assert not isinstance(stepper, tuple)  # one in, one out
    batches = _batches(recipe, train_samples, fabric, start=run.iteration)
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
            images, labels = next(batches)
            seed = _step_seed(settings.seed, run.iteration, fabric.global_rank)
            torch.manual_seed(seed)  # for a backbone with dropout
            losses: SemanticLosses = objective(images, labels, seed)
            fabric.backward(losses.total)
            if recipe.optim.clip_norm:
                fabric.clip_gradients(objective, stepper, max_norm=recipe.optim.clip_norm)
            stepper.step()
            optimizer.zero_grad()
            run.step_done()

            clock.tick()
            done = run.iteration
            evaluates = val_samples is not None and (done % settings.eval_every == 0 or done == settings.iterations)
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
    return Outcome(run.iteration, best if best.exists() else out / LAST_MODEL, run.evaluation)


class _Run:
    """What changes while training, and how it is kept."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        spec: ModelSpec,
        network: SemanticPointRend,
        optimizer: torch.optim.Optimizer,
        out: Path,
        val_samples: SampleSet | None,
    ) -> None:
        self.fabric = fabric
        self.recipe = recipe
        self.spec = spec
        self.network = network
        self.optimizer = optimizer
        self.out = out
        self.val_samples = val_samples
        self.iteration = 0
        self.best = -math.inf
        self.evaluation: Evaluation | None = None
        decay = recipe.optim.ema
        self.average = averaged(network, decay) if decay else None

    @property
    def result(self) -> SemanticPointRend:
        """The network that is evaluated and saved: the averaged one, if there is one."""
        if self.average is None:
            return self.network
        result = self.average.module
        assert isinstance(result, SemanticPointRend)
        return result

    def step_done(self) -> None:
        self.iteration += 1
        if self.average is not None:
            self.average.update_parameters(self.network)

    def evaluate(self, note: Callable[[str], None]) -> dict[str, float]:
        """Score the result; keep it if it is the best so far. Every process waits, the first one works."""
        scores: dict[str, float] = {}
        if self.fabric.is_global_zero:
            assert self.val_samples is not None
            # A copy, because a predictor changes its network's mode and memory format.
            predictor = Predictor(Model(copy.deepcopy(self.result), self.spec), device=self.fabric.device)
            self.evaluation = evaluate(predictor, self.val_samples, limit=self.recipe.train.eval_images)
            for row in ("coarse", "pointrend"):
                values = getattr(self.evaluation, row)
                for metric in ("miou", "boundary_iou", "boundary_f", "pixel_accuracy"):
                    scores[f"val/{row}/{metric}"] = getattr(values, metric)
                note(
                    f"iteration {self.iteration}  {row:9s}  mIoU {values.miou:5.2f}  "
                    f"Boundary IoU {values.boundary_iou:5.2f}  Boundary F {values.boundary_f:5.2f}"
                )
            if scores["val/pointrend/miou"] > self.best:
                self.best = scores["val/pointrend/miou"]
                save_model(self.out / BEST_MODEL, self.result.state_dict(), self.spec)
        self.fabric.barrier()
        return scores

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
            save_model(self.out / LAST_MODEL, self.result.state_dict(), self.spec)
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


def averaged(network: SemanticPointRend, decay: float) -> AveragedModel:
    """An exponential moving average of weights and batch statistics."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def model_spec(recipe: Recipe, samples: SampleSet) -> ModelSpec:
    """What the model files of a training say of themselves."""
    return ModelSpec(
        name=recipe.name,
        architecture=SemanticArchitecture(
            num_classes=num_logits(len(samples.classes)), **recipe.model.model_dump(exclude={"weights"})
        ),
        classes=samples.classes,
        input=recipe.input,
        test=recipe.test,
        layout=samples.name,
    )


def _objective(network: SemanticPointRend, recipe: Recipe, samples: SampleSet) -> SemanticObjective:
    loss = recipe.loss
    return SemanticObjective(
        network,
        num_points=loss.num_points,
        oversample=loss.oversample,
        importance=loss.importance,
        coarse_weight=loss.coarse_weight,
        point_weight=loss.point_weight,
        class_weights=balanced_weights(samples, loss.class_balance) if loss.class_balance else None,
    )


def balanced_weights(samples: SampleSet, power: float, *, most: float = 5.0, images: int = 200) -> Tensor:
    """Class weights `(median frequency / frequency) ** power`, from evenly spaced label files, in [1 / most, most]."""
    counts = np.zeros(256, dtype=np.int64)
    step = max(1, len(samples.samples) // images)
    for sample in samples.samples[::step]:
        counts += np.bincount(samples.lookup[read_labels(sample.label)].ravel(), minlength=256)
    assert IGNORE == 255
    frequency = torch.from_numpy(counts[: len(samples.classes)]).float().clamp(min=1)
    return ((frequency.median() / frequency) ** power).clamp(1 / most, most)


def _batches(recipe: Recipe, samples: SampleSet, fabric: Fabric, *, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    settings, augment = recipe.train, recipe.augment
    if settings.batch_size % fabric.world_size:
        raise ValueError(
            f"train.batch_size {settings.batch_size} cannot be shared by {fabric.world_size} processes: take a multiple"
        )
    transform = train_transform(
        crop=augment.crop,
        mean=recipe.input.mean,
        std=recipe.input.std,
        scale=augment.scale,
        base_scale=augment.base_scale,
        base_short=augment.base_short,
        max_share=augment.max_class_share,
        flip=augment.flip,
        photometric=augment.photometric,
        rotate=augment.rotate,
        grayscale=augment.grayscale,
    )
    sampler = IterationBatchSampler(
        len(samples.samples),
        batch_size=settings.batch_size // fabric.world_size,
        seed=settings.seed,
        iterations=settings.iterations,
        start_iteration=start,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    loader = DataLoader(
        SemanticDataset(samples, transform),
        batch_sampler=sampler,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        prefetch_factor=4 if settings.workers else None,
    )
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    for images, labels in loader:
        yield images.to(fabric.device, memory_format=layout), labels.to(fabric.device)


def _check_finite(loss: float, iteration: int) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss} at iteration {iteration}: try a lower optim.lr, or optim.clip_norm=1"
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


def _numbers(losses: SemanticLosses, rate: float, clock: _Clock) -> dict[str, float]:
    return {
        "loss": float(losses.total.detach()),
        "loss_coarse": float(losses.coarse),
        "loss_points": float(losses.points),
        "point_accuracy": float(losses.accuracy),
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
