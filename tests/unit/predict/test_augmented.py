"""Several passes and sliding windows, beside a second implementation of whole maps, as mmsegmentation has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pointrend.core import Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.errors import PointRendError
from pointrend.explain import explain
from pointrend.inputs import network_input
from pointrend.predict import PredictOptions, SemanticPredictor, Slide, TestAugmentation
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

MakeModel = Callable[..., Model]
MakeImage = Callable[..., np.ndarray]

PASSES = [((1.0,), True), ((0.5, 1.75), False), ((0.5, 0.75, 1, 1.25), True)]
SLIDES = [None, Slide((40, 48), (24, 40)), Slide((500, 500), (300, 300)), Slide((64, 33), (64, 17))]


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width]
    )


def with_test(model: Model, **changes: object) -> Model:
    return Model(model.network, model.spec.model_copy(update={"test": model.spec.test.model_copy(update=changes)}))


def logits_of(network: Any, images: Tensor, steps: Subdivision | None) -> Tensor:
    """(1, C, h, w) of an input, at its size; without steps the coarse ones."""
    output = network(images)
    logits = output.coarse if steps is None else network.render(output, steps)
    return F.interpolate(logits, size=images.shape[2:], mode="bilinear")


def windowed(network: Any, images: Tensor, slide: Slide, multiple: int, steps: Subdivision | None) -> Tensor:
    """mmsegmentation's `slide_inference`: whole maps, a window after the other, divided by counts."""
    _, _, height, width = images.shape
    (crop_h, crop_w), (stride_h, stride_w) = slide.crop, slide.stride
    total = count = torch.zeros(1)
    for row in range(max(height - crop_h + stride_h - 1, 0) // stride_h + 1):
        for column in range(max(width - crop_w + stride_w - 1, 0) // stride_w + 1):
            bottom, right = min(row * stride_h + crop_h, height), min(column * stride_w + crop_w, width)
            top, left = max(bottom - crop_h, 0), max(right - crop_w, 0)
            part = images[:, :, top:bottom, left:right]
            padded = F.pad(part, (0, -part.shape[3] % multiple, 0, -part.shape[2] % multiple))
            logits = logits_of(network, padded, steps)[:, :, : part.shape[2], : part.shape[3]]
            at = (left, width - right, top, height - bottom)
            total, count = total + F.pad(logits, at), count + F.pad(torch.ones_like(logits), at)
    return total / count


@torch.inference_mode()
def averaged(
    model: Model,
    pixels: np.ndarray,
    scales: Sequence[float],
    *,
    flip: bool,
    slide: Slide | None = None,
    coarse: bool = False,
) -> Tensor:
    """The mean probabilities (C, H, W) by whole maps."""
    predictor = model.scoring_predictor()
    network, spec, test = predictor.network, model.spec, model.spec.test
    steps, total, passes = None if coarse else test.subdivision, torch.zeros(1), 0
    for scale in scales:
        changed = test.model_copy(
            update={
                "shortest": int(test.shortest * scale + 0.5),
                "longest": int(test.longest * scale + 0.5),
                "pad_multiple": 1 if slide else test.pad_multiple,
            }
        )
        for mirrored in (False, True)[: 1 + flip]:
            seen = np.fliplr(pixels).copy() if mirrored else pixels
            images, frame = network_input(seen, input=spec.input, test=changed)
            if slide is None:
                logits = logits_of(network, images, steps)[:, :, : frame.valid[0], : frame.valid[1]]
            else:
                logits = windowed(network, images, slide, test.pad_multiple, steps)
            logits = F.interpolate(logits, size=pixels.shape[:2], mode="bilinear")
            logits = torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits
            probabilities = logits.softmax(dim=1)
            total, passes = total + (probabilities.flip(3) if mirrored else probabilities), passes + 1
    return (total / passes)[0]


def agrees(labels: np.ndarray, probabilities: Tensor) -> bool:
    """Whether labels are those of the highest probabilities, where these are no ties."""
    best = probabilities.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-5).numpy()
    assert clear.mean() > 0.95
    return bool((labels == probabilities.argmax(dim=0).numpy())[clear].all())


@pytest.fixture(scope="module")
def binary_model(small_model: Model) -> Model:
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("thing", (0, 255, 0)))
    spec = small_model.spec.model_copy(update={"num_logits": 1, "classes": classes})
    torch.manual_seed(1)
    return Model(network_of(spec), spec).eval()


@pytest.mark.parametrize("slide", SLIDES)
@pytest.mark.parametrize(("scales", "flip"), PASSES)
def test_labels_are_those_of_averaged_whole_maps(
    small_model: Model, scales: tuple[float, ...], flip: bool, slide: Slide | None
) -> None:
    pixels = picture(75, 101)
    for reference in (True, False):
        result = small_model.predict(pixels, scales=scales, flip=flip, slide=slide, reference=reference)
        probabilities = averaged(small_model, pixels, scales, flip=flip, slide=slide)
        if reference:
            assert agrees(result.labels, probabilities)
        assert (result.labels != probabilities.argmax(dim=0).numpy()).mean() < 0.005  # points that are ties


def test_both_rows_are_averaged(small_model: Model) -> None:
    pixels = picture(75, 101)
    options = PredictOptions(augmentation=TestAugmentation((0.5, 1), flip=True), reference=True)
    rows = small_model.predictor(options).compare(pixels)
    assert list(rows) == ["coarse", "pointrend"]
    assert agrees(rows["coarse"].labels, averaged(small_model, pixels, (0.5, 1), flip=True, coarse=True))
    assert agrees(rows["pointrend"].labels, averaged(small_model, pixels, (0.5, 1), flip=True))


@pytest.mark.parametrize("slide", SLIDES[:2])
def test_one_logit_is_averaged_as_probabilities_of_two_classes(binary_model: Model, slide: Slide | None) -> None:
    pixels = picture(60, 50)
    result = binary_model.predict(pixels, scales=(0.5, 1.5), flip=True, slide=slide, reference=True)
    assert agrees(result.labels, averaged(binary_model, pixels, (0.5, 1.5), flip=True, slide=slide))


def test_probabilities_are_the_means(small_model: Model) -> None:
    pixels = picture(75, 101)
    options: dict[str, Any] = {"scales": (0.5, 1.25), "flip": True, "reference": True}
    result = small_model.predict(pixels, probabilities=True, **options)
    expected = averaged(small_model, pixels, (0.5, 1.25), flip=True).topk(2, dim=0).values.numpy()
    assert np.allclose(result.probabilities, expected[0], atol=1e-5)
    assert np.allclose(result.uncertainty, expected[1] / expected[0], atol=1e-4)
    assert np.array_equal(result.labels, small_model.predict(pixels, **options).labels)


@pytest.mark.parametrize("multiple", [1, 32, 37])
@pytest.mark.parametrize("size", [(1, 1), (9, 1), (33, 97), (129, 65)])
def test_any_size_and_padding(small_model: Model, size: tuple[int, int], multiple: int) -> None:
    model = with_test(small_model, pad_multiple=multiple)
    for slide in (None, Slide((32, 48), (16, 48))):
        result = model.predict(picture(*size), scales=(0.3, 1.1), flip=True, slide=slide, reference=True)
        assert result.labels.shape == size
        probabilities = averaged(model, picture(*size), (0.3, 1.1), flip=True, slide=slide)
        assert (result.labels != probabilities.argmax(dim=0).numpy()).mean() < 0.01


def test_a_symmetric_image_has_a_symmetric_result(small_model: Model) -> None:
    half = picture(64, 40)
    pixels = np.concatenate((half, half[:, ::-1]), axis=1)
    labels = small_model.predict(pixels, flip=True).labels
    assert (labels != labels[:, ::-1]).mean() < 0.002
    once = small_model.predict(pixels).labels
    assert (once != once[:, ::-1]).mean() > 0.01


def test_one_plain_pass_is_the_ordinary_prediction(small_model: Model) -> None:
    pixels = picture(75, 101)
    plain = small_model.predict(pixels)
    same = small_model.predict(pixels, slide=Slide((500, 500), (500, 500)))
    assert (plain.labels != same.labels).mean() < 0.002
    assert plain.certainty == pytest.approx(same.certainty, abs=1e-5)
    assert small_model.predict(pixels, scales=(2, 1), flip=True).certainty == pytest.approx(plain.certainty, abs=1e-6)
    assert PredictOptions(augmentation=TestAugmentation([1])).single


def test_labels_that_are_known_stay_right(color_model: MakeModel, color_image: MakeImage) -> None:
    image = color_image(50, 70)
    labels = color_model().predict(image, scales=(1, 2), flip=True, slide=Slide((40, 40), (30, 30))).labels
    assert (labels != image.argmax(axis=2)).mean() < 0.03


def test_the_network_sees_the_scaled_sizes(small_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = small_model.predictor(PredictOptions(augmentation=TestAugmentation((0.5, 1, 1.75), flip=True)))
    assert isinstance(predictor, SemanticPredictor)
    seen = []
    encode = predictor.encode_input
    monkeypatch.setattr(predictor, "encode_input", lambda i, f: seen.append((f.valid, f.size)) or encode(i, f))
    predictor.predict(picture(100, 150))
    sizes = [(112, 168), (112, 168), (64, 96), (64, 96), (32, 48), (32, 48)]  # shortest edge 64, the largest first
    assert seen == [(size, (100, 150)) for size in sizes]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scales": ()}, "scales must be 1 to 16 numbers, got 0"),
        ({"scales": tuple(range(1, 18))}, "scales must be 1 to 16 numbers, got 17"),
        ({"scales": (0.5, 0)}, r"scales must be 0.1 to 8, got 0"),
        ({"scales": (-1.0,)}, r"scales must be 0.1 to 8, got -1.0"),
        ({"scales": (float("nan"),)}, r"scales must be 0.1 to 8, got nan"),
        ({"scales": (9,)}, r"scales must be 0.1 to 8, got 9"),
        ({"scales": (1, 1.0)}, r"scales must differ from each other, got \[1, 1.0\]"),
        ({"scales": ("1",)}, r"scales must be several numbers, such as \(0.5, 1, 1.5\), got \('1',\)"),
        ({"scales": 1.5}, r"scales must be several numbers"),
        ({"scales": (True,)}, r"scales must be several numbers"),
        ({"flip": 1}, "flip must be True or False, got 1"),
        ({"slide": (512, 512)}, r"slide must be a Slide\(crop, stride\) or None, got \(512, 512\)"),
    ],
)
def test_wrong_augmentations_are_refused(small_model: Model, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PointRendError, match=said) as caught:
        small_model.predict(picture(40, 40), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("crop", "stride", "said"),
    [
        ((15, 64), (8, 8), "crop must be 16 to 8192 pixels, got 15"),
        ((64, 9000), (8, 600), "crop must be 16 to 8192 pixels, got 9000"),
        ((64, 64), (65, 64), "stride must be 4 to 64 pixels for a crop of 64, got 65"),
        ((64, 64), (64, 3), "stride must be 4 to 64 pixels for a crop of 64, got 3"),
        ((64, 64), (0, 64), "stride must be 4 to 64 pixels for a crop of 64, got 0"),
        ((64,), (64, 64), r"crop must be two integers \(H, W\), got \(64,\)"),
        (64, (64, 64), r"crop must be two integers \(H, W\), got 64"),
        ((64, 64), (32.0, 32.0), r"stride must be two integers \(H, W\), got \(32.0, 32.0\)"),
    ],
)
def test_wrong_windows_are_refused(crop: Any, stride: Any, said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        Slide(crop, stride)


def test_explain_draws_one_pass_only(color_model: MakeModel) -> None:
    predictor = color_model().predictor(PredictOptions(augmentation=TestAugmentation(flip=True)))
    assert isinstance(predictor, SemanticPredictor)
    with pytest.raises(PointRendError, match="leave out scales, flip and slide"):
        explain(predictor, picture(40, 40))
