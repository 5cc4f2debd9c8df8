"""The model that users hold: a module that predicts."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from pointrend.errors import PointRendError
from pointrend.models import SemanticOutput
from pointrend.results import SemanticResult
from pointrend.zoo import Model

MakeModel = Callable[..., Model]
MakeImage = Callable[..., np.ndarray]


def test_it_is_a_module(small_model: Model) -> None:
    assert isinstance(small_model, torch.nn.Module)
    assert sum(p.numel() for p in small_model.parameters()) == sum(p.numel() for p in small_model.network.parameters())
    output = small_model(torch.zeros(1, 3, 64, 96))
    assert isinstance(output, SemanticOutput)
    assert output.coarse.shape == (1, 3, 16, 24)
    assert not small_model.training
    assert small_model.device == torch.device("cpu")


def test_its_repr_is_one_line(small_model: Model, color_model: MakeModel) -> None:
    assert repr(small_model) == "Model(small: semantic, 3 classes, 3.0 M parameters, cpu)"
    assert "\n" not in repr(color_model())


def test_a_batch_gives_a_list_and_a_generator_a_generator(color_model: MakeModel, color_image: MakeImage) -> None:
    model, images = color_model(), [color_image(48, 60), color_image(48, 60)[::-1]]
    expected = [image.argmax(axis=2) for image in images]
    seen: list[int] = []

    def one_by_one() -> Iterator[np.ndarray]:
        for index, image in enumerate(images):
            seen.append(index)
            yield image

    batch = np.stack(images)
    tensors = torch.from_numpy(batch).permute(0, 3, 1, 2)
    for several in (images, tuple(images), batch, tensors):
        results = model.predict(several)
        assert isinstance(results, list)
        assert all(np.array_equal(r.labels, e) for r, e in zip(results, expected, strict=True))
    generated = model.predict(one_by_one())
    assert isinstance(generated, Iterator)
    assert seen == []  # nothing is read before it is asked for
    assert np.array_equal(next(generated).labels, expected[0])
    assert seen == [0]
    assert np.array_equal(next(generated).labels, expected[1])


def test_a_prediction_follows_the_weights(small_model: Model, color_image: MakeImage) -> None:
    """What is prepared for prediction is prepared anew after a training step, a load, or a change of type."""
    model, image = copy.deepcopy(small_model), color_image(64, 80)
    first = model.predict(image).labels
    assert np.array_equal(model.predict(image).labels, first)
    prepared = model.predictor().network
    assert model.predictor().network is prepared
    with torch.no_grad():
        bias = model.network.coarse_head.classifier.bias  # type: ignore[union-attr]
        bias[2] += 100  # type: ignore[operator, index]
        point_bias = model.network.point_head.classifier.bias  # type: ignore[union-attr]
        point_bias[2] += 1000  # type: ignore[operator, index]
    assert (model.predict(image).labels == 2).all()
    assert not (first == 2).all()
    model.load_state_dict(small_model.state_dict())
    assert np.array_equal(model.predict(image).labels, first)


def test_copies_and_pickles_predict_alike(small_model: Model, color_image: MakeImage) -> None:
    image = color_image(50, 70)
    expected = small_model.predict(image).labels
    for other in (copy.deepcopy(small_model), pickle.loads(pickle.dumps(small_model))):
        assert np.array_equal(other.predict(image).labels, expected)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("pad_multiple", [1, 32])
def test_probabilities_are_those_of_the_reference_rendering(
    small_model: Model, color_image: MakeImage, reference: bool, pad_multiple: int
) -> None:
    test = small_model.spec.test.model_copy(update={"pad_multiple": pad_multiple})
    model = Model(small_model.network, small_model.spec.model_copy(update={"test": test}))
    result = model.predict(color_image(50, 70), probabilities=True, reference=reference)
    assert isinstance(result, SemanticResult)
    other = model.predict(color_image(50, 70), probabilities=True, reference=not reference)
    same = result.labels == other.labels
    assert same.mean() > 0.99
    assert np.allclose(result.probabilities[same], other.probabilities[same], atol=1e-3)
    assert np.allclose(result.uncertainty[same], other.uncertainty[same], atol=1e-3)
    assert result.probabilities.shape == result.uncertainty.shape == (50, 70)
    assert result.probabilities.dtype == np.float32
    assert (result.probabilities >= 1 / 3 - 1e-6).all()
    assert (result.uncertainty <= 1).all()


def test_probabilities_written_out(color_model: MakeModel) -> None:
    """Logits of 255 and 0 are certain; equal logits are not."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 1] = 255
    result = color_model().predict(image, probabilities=True)
    assert np.allclose(result.probabilities[:, :28], 1)
    assert np.allclose(result.uncertainty[:, :28], 0)
    assert np.allclose(result.probabilities[:, 36:], 1 / 3)
    assert np.allclose(result.uncertainty[:, 36:], 1)


def test_probabilities_that_were_not_asked_for(color_model: MakeModel, color_image: MakeImage) -> None:
    result = color_model().predict(color_image(48, 64))
    for name in ("probabilities", "uncertainty"):
        with pytest.raises(PointRendError, match=r"no probabilities; use predict\(\.\.\., probabilities=True\)"):
            getattr(result, name)


def test_wrong_types_are_one_line(color_model: MakeModel) -> None:
    for image, said in ((7, "expected a path"), (None, "expected a path"), (b"bytes", "got bytes; decode them first")):
        with pytest.raises(PointRendError, match=said) as caught:
            color_model().predict(image)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
