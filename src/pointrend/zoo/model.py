"""The model that users hold: a network with its spec and its prediction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointrend.data.intensity import Scaling
from pointrend.data.reading import Reading
from pointrend.devices import ready_after_fork
from pointrend.errors import PointRendError, warn
from pointrend.inputs import Channels, ImageInput, is_batch, to_photo
from pointrend.models.folding import prepared
from pointrend.predict import PredictOptions, Predictor, Slide, TestAugmentation
from pointrend.spec import SHOWN_SCORE, ModelSpec
from pointrend.tasks import TASKS, Task


class Model(nn.Module):
    """A network with its spec, and prediction with it."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self._prepared = _Prepared()

    @property
    def task(self) -> Task:
        """The row of `TASKS` for this model."""
        return TASKS[self.spec.task]

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next((parameter.device for parameter in self.network.parameters()), torch.device("cpu"))

    def forward(self, images: Tensor) -> Any:
        """Run the network on images (N, 3, H, W) that are normalised as `spec.input` says."""
        return self.network(images)

    def predict(
        self,
        image: ImageInput | Iterable[ImageInput],
        *,
        size: int | None = None,
        points: int | None = None,
        steps: int | None = None,
        score_threshold: float | None = None,
        max_detections: int | None = None,
        adaptive: bool = False,
        reference: bool = False,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        slide: Slide | None = None,
        probabilities: bool = False,
        channels: Channels = "rgb",
        page: int | None = None,
        channel: int | None = None,
        intensity: Scaling | None = None,
    ) -> Any:
        """Predict at the image's own size, with the model's test settings or the given ones.

        Args:
            image: see `to_photo`: a path; a PIL image; an array (H, W, 3) or a tensor (3, H, W). A list or a batch
                (N, 3, H, W) gives a list of results, a generator gives a generator.
            size: the shortest edge at which the network sees an image.
            points: N of a subdivision step.
            steps: subdivision steps.
            score_threshold: instance models: objects must have a higher score; 0.5 by default, as in the command.
            max_detections: instance models: the maximum number of objects of an image.
            adaptive: instance models: stop subdividing boxes that are finer than the image's pixels.
            reference: use the reference renderer: the same result, more slowly.
            scales: multiples of the size at which the network sees an image; probabilities are averaged over all.
            flip: also average over the mirror image at each scale.
            slide: semantic models: the network sees windows, and logits are averaged where they overlap.
            probabilities: semantic models: also compute `probabilities` and `uncertainty` of the result.
            channels: the order of arrays and tensors; OpenCV's is "bgr".
            page: of a TIFF or an animation, counted from 1; by default the first.
            channel: one channel of a colour image as grey, counted from 1.
            intensity: how values become 0..255: "full" range of their type, "auto" by the image's own range, or
                (low, high); by default as `spec.input.intensity` says.

        Returns:
            A `SemanticResult` or an `InstanceResult`, or several. Its `notes` say what was chosen, scaled or limited,
            which is also warned of (`PointRendWarning`).

        Raises:
            PointRendError: an option is out of range or for models of another task, or the image cannot be read.
        """
        options = PredictOptions(
            size=size,
            points=points,
            steps=steps,
            score_threshold=score_threshold,
            max_detections=max_detections,
            adaptive=adaptive,
            reference=reference,
            augmentation=TestAugmentation(scales, flip),
            slide=slide,
            probabilities=probabilities,
        )
        predictor = self.predictor(options)
        reading = Reading(page, channel, intensity or self.spec.input.intensity)

        def predict_one(single: ImageInput) -> Any:
            path = Path(single) if isinstance(single, (str, Path)) else None
            photo = to_photo(single, channels=channels, reading=reading)
            result = predictor.predict(photo.pixels, path).noted(photo.notes)
            for note in result.notes:
                warn(note if path is None else f"{path}: {note}")
            return result

        if not is_batch(image):
            return predict_one(image)  # type: ignore[arg-type]
        results = (predict_one(single) for single in image)
        return list(results) if isinstance(image, (Sized, np.ndarray, Tensor)) else results

    def predictor(self, options: PredictOptions = PredictOptions()) -> Predictor[Any, Any, Any, Any]:
        """Return the predictor behind `predict`, for callers that need its steps.

        Raises:
            PointRendError: as `predict`.
        """
        if self.task.needs is not None:
            raise PointRendError(f"{self.spec.name} needs {self.task.needs}")
        if "score_threshold" not in self.task.predictor.foreign and options.score_threshold is None:
            options = replace(options, score_threshold=SHOWN_SCORE)
        return self.scoring_predictor(options)

    def scoring_predictor(self, options: PredictOptions = PredictOptions()) -> Predictor[Any, Any, Any, Any]:
        """Return a predictor that keeps detections above the model's own, lower threshold, as metrics need."""
        ready_after_fork()
        return self.task.predictor(self._prepared.of(self.network), self.spec, options)

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        kinds = len(self.spec.classes)
        return (
            f"Model({self.spec.name}: {self.spec.task}, {kinds} class{'es' if kinds > 1 else ''}, "
            f"{parameters / 1e6:.1f} M parameters, {self.device})"
        )


class _Prepared:
    """Caches the copy of a network that is prepared for prediction, until the network changes."""

    def __init__(self) -> None:
        self._state: tuple[object, ...] | None = None
        self._network: nn.Module | None = None

    def of(self, network: nn.Module) -> nn.Module:
        """Return the prepared copy of a network."""
        state = tuple(map(_version, network.state_dict().values()))
        if self._network is None or state != self._state:
            self._network, self._state = prepared(network), state  # type: ignore[type-var]
        assert self._network is not None
        return self._network

    def __deepcopy__(self, memo: object) -> _Prepared:
        return _Prepared()

    def __getstate__(self) -> dict[str, object]:
        return {"_state": None, "_network": None}


def _version(tensor: Tensor) -> tuple[object, ...]:
    """Return values that change when a tensor is moved, converted or written to."""
    return tensor.data_ptr(), tensor.dtype, 0 if tensor.is_inference() else tensor._version
