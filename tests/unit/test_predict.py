from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pointrend.data import ImageError
from pointrend.data.classes import ClassInfo
from pointrend.devices import available_device
from pointrend.errors import PointRendError
from pointrend.models import SemanticOutput
from pointrend.predict import PredictOptions, SemanticPredictor
from pointrend.results import SemanticResult
from pointrend.zoo import Model

MakeModel = Callable[..., Model]
MakeImage = Callable[..., np.ndarray]


def both_rows(model: Model, image: np.ndarray, **options: int) -> tuple[Tensor, Tensor]:
    """The labels before rendering and after."""
    rows = model.predictor(PredictOptions(**options)).compare(image)
    assert list(rows) == ["coarse", "pointrend"]
    return torch.from_numpy(rows["coarse"].labels), torch.from_numpy(rows["pointrend"].labels)


SIZES = [(48, 48), (50, 70), (70, 50), (33, 97), (64, 96), (45, 131)]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (31, 47), (47, 31), (100, 60), (1, 400), (129, 65)])
@pytest.mark.parametrize("pad_multiple", [1, 32])
def test_labels_have_exactly_the_size_of_the_image(
    small_model: Model, size: tuple[int, int], pad_multiple: int
) -> None:
    test = small_model.spec.test.model_copy(update={"pad_multiple": pad_multiple})
    model = Model(small_model.network, small_model.spec.model_copy(update={"test": test}))
    result = model.predict(np.zeros((*size, 3), np.uint8))
    assert result.labels.shape == size
    assert result.labels.dtype == np.uint8
    assert result.labels.max() < 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [2, 3])
def test_padding_does_not_move_labels(
    color_model: MakeModel, color_image: MakeImage, size: tuple[int, int], steps: int
) -> None:
    """With a prediction for every pixel the answer is known: the brightest channel, padded or not."""
    image = color_image(*size)
    model = color_model(shortest=min(size), pad_multiple=32, steps=steps)
    assert np.array_equal(model.predict(image).labels, image.argmax(axis=2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("pad_multiple", [32, 37])
def test_padding_does_not_move_labels_of_coarser_grids(
    color_model: MakeModel, color_image: MakeImage, size: tuple[int, int], steps: int, pad_multiple: int
) -> None:
    """The border to the padding lies inside of a cell here: labels may be wrong near it, but must not be shifted."""
    image = color_image(*size)
    truth = image.argmax(axis=2)
    model = color_model(shortest=min(size), pad_multiple=pad_multiple, steps=steps)
    wrong = model.predict(image).labels != truth
    edge = np.zeros(truth.shape, bool)
    edge[1:] |= truth[1:] != truth[:-1]
    edge[:, 1:] |= truth[:, 1:] != truth[:, :-1]
    near = np.zeros_like(edge)
    for y, x in np.argwhere(edge):
        near[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = True
    near[-4:], near[:, -4:] = True, True
    assert not (wrong & ~near).any()
    assert wrong.mean() < 0.12


def test_every_kind_of_image_gets_the_same_labels(
    color_model: MakeModel, color_image: MakeImage, tmp_path: Path
) -> None:
    image = color_image(50, 70)
    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    model = color_model(num_points=300)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = model.predict(image)
    assert expected.path is None
    results = [model.predict(i) for i in (path, str(path), Image.fromarray(image), tensor, tensor / 255)]
    results.append(model.predict(image[:, :, ::-1], channels="bgr"))
    for result in results:
        assert np.array_equal(result.labels, expected.labels)
        assert np.array_equal(result.image, image)
    assert [r.path for r in results[:2]] == [path, path]


def test_a_list_gives_a_list(color_model: MakeModel, color_image: MakeImage) -> None:
    model = color_model()
    results = model.predict([color_image(48, 50), color_image(60, 48)])
    assert [r.labels.shape for r in results] == [(48, 50), (60, 48)]
    assert all(isinstance(r, SemanticResult) for r in results)
    assert model.predict([]) == []


def test_the_model_says_in_which_order_it_wants_channels(color_model: MakeModel, color_image: MakeImage) -> None:
    image = color_image(48, 64)
    labels = color_model(channels="bgr").predict(image).labels
    assert np.array_equal(labels, image[:, :, ::-1].argmax(axis=2))


def test_one_logit_is_a_binary_model(color_model: MakeModel, color_image: MakeImage) -> None:
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("green", (0, 255, 0)))
    image = color_image(48, 64)
    labels = color_model(classes=classes).predict(image).labels
    assert np.array_equal(labels, image[:, :, 1] > 127)


def test_labels_of_many_classes_are_16_bit(color_model: MakeModel, color_image: MakeImage) -> None:
    for count, dtype in ((256, np.uint8), (257, np.uint16)):
        classes = tuple(ClassInfo(f"class {i}", (i % 256, 1, 2)) for i in range(count))
        assert color_model(classes=classes).predict(color_image(48, 48)).labels.dtype == dtype


def test_rendering_is_better_than_the_coarse_logits_it_starts_from(
    color_model: MakeModel, color_image: MakeImage
) -> None:
    image = color_image(120, 160)
    truth = torch.from_numpy(image.argmax(axis=2))
    coarse, rendered = both_rows(color_model(shortest=120, num_points=2000), image)
    assert coarse.shape == rendered.shape == truth.shape
    assert (rendered != truth).sum() < 0.2 * (coarse != truth).sum()


def test_compare_and_call_agree(color_model: MakeModel, color_image: MakeImage) -> None:
    image = color_image(70, 50)
    model = color_model(num_points=100, pad_multiple=32)
    assert np.array_equal(both_rows(model, image)[1].numpy(), model.predict(image).labels)


def test_settings_replace_those_of_the_model(color_model: MakeModel, color_image: MakeImage) -> None:
    model = color_model(shortest=64, longest=128)
    predictor = model.predictor(PredictOptions(size=96, points=10, steps=1))
    assert isinstance(predictor, SemanticPredictor)
    encoded = predictor.encode(color_image(100, 150))
    assert encoded.frame.valid == (96, 144)
    assert predictor.encode(color_image(100, 400)).frame.valid == (48, 192)  # the longest edge keeps its ratio
    steps = list(predictor.subdivision_steps(encoded))
    assert [s.points.shape for s in steps] == [(1, 10, 2)]
    assert model.predictor().test == model.spec.test


def test_no_steps_is_the_coarse_prediction(color_model: MakeModel, color_image: MakeImage) -> None:
    image = color_image(50, 70)
    coarse, rendered = both_rows(color_model(pad_multiple=32), image, steps=0)
    assert torch.equal(coarse, rendered)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 31}, "size must be 32 to 8192.*got 31"),
        ({"points": 0}, "points must be 1 to 100000000, got 0"),
        ({"steps": -1}, "steps must be 0 to 8, got -1"),
        ({"steps": 9}, "steps must be 0 to 8, got 9"),
        ({"score_threshold": 0.5}, "score_threshold is for instance models, colors labels pixels"),
        ({"max_detections": 3}, "max_detections is for instance models"),
        ({"adaptive": True}, "adaptive is for instance models"),
    ],
)
def test_wrong_settings_are_refused(color_model: MakeModel, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        color_model().predict(np.zeros((40, 40, 3), np.uint8), **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "'gpu' is not a device; expected cpu"),
        ("meta", "'meta' is not available here"),
        ("cuda:99", "'cuda:99' is not available here; expected cpu"),
    ],
)
def test_devices_that_are_not_here_are_refused(device: str, said: str) -> None:
    with pytest.raises(PointRendError, match=said) as caught:
        available_device(device)
    assert "\n" not in str(caught.value)


def test_memory_that_runs_out_is_said_in_one_line(
    color_model: MakeModel, color_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = color_model()

    def fail(images: Tensor) -> SemanticOutput:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nBuy more")

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(ImageError, match="not enough memory for 48 x 64 pixels"):
        model.predict(color_image(48, 64))


def test_bugs_are_not_disguised(
    color_model: MakeModel, color_image: MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = color_model()

    def fail(images: Tensor) -> SemanticOutput:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(model.network, "forward", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        model.predict(color_image(48, 64))


def test_prediction_needs_no_gradients_and_leaves_the_models_mode(small_model: Model) -> None:
    small_model.train()
    predictor = small_model.predictor()
    assert small_model.network.training
    assert isinstance(predictor, SemanticPredictor)
    assert not predictor.network.training
    small_model.eval()
    encoded = predictor.encode(np.zeros((40, 40, 3), np.uint8))
    assert not encoded.output.coarse.requires_grad
    assert not predictor.rendered_logits(encoded).requires_grad


def test_the_reference_is_reachable_and_the_same(small_model: Model, color_image: MakeImage) -> None:
    image = color_image(70, 90)
    sparse, reference = (small_model.predict(image, reference=reference) for reference in (False, True))
    assert isinstance(sparse, SemanticResult)
    assert isinstance(reference, SemanticResult)
    assert (sparse.labels != reference.labels).mean() < 0.002  # ties


def test_a_network_may_be_compiled_by_torch(small_model: Model, color_image: MakeImage) -> None:
    predictor = copy.deepcopy(small_model).predictor()
    expected = predictor.predict(color_image(70, 90)).labels
    # Traced as for a compiler, but not compiled, which takes a minute; symbolic sizes take four.
    predictor.network.compile(backend="eager", dynamic=False)
    assert (predictor.predict(color_image(70, 90)).labels != expected).mean() < 0.002
    assert predictor.predict(color_image(90, 61)).labels.shape == (90, 61)
