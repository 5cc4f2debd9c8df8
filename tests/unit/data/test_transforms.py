"""Augmentations: exact sizes, the class-share rule, seeds, agreement with resizing the whole image."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from pointrend.data import windows
from pointrend.data.colors import MildPhotometricDistort, PhotometricDistort
from pointrend.data.settings import InputSpec, SemanticAugment
from pointrend.data.transforms import SemanticWindow, train_transform
from pointrend.data.windows import largest_ratio

MEAN, STD = (100.0, 120.0, 140.0), (50.0, 60.0, 70.0)


def semantic_transform(
    *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD, channels: str = "rgb", **augment: object
) -> Callable[[tv_tensors.Image, tv_tensors.Mask], tuple[Tensor, Tensor]]:
    return train_transform(SemanticAugment(**augment), InputSpec(mean=mean, std=std, channels=channels))


def window_of(size: tuple[int, int], *, fill: tuple[int, int, int] = (0, 0, 0), **augment: object) -> SemanticWindow:
    """Without a random scale, unless one is given."""
    return SemanticWindow(SemanticAugment(**{"scale": (1.0, 1.0), "crop": size, **augment}), fill=fill)


def scene(height: int, width: int, *, classes: int = 5, seed: int = 0) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    labels = rng.integers(0, classes, (height, width), np.uint8)
    return tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)), tv_tensors.Mask(torch.from_numpy(labels))


sizes = st.integers(1, 40)


@settings(max_examples=150, deadline=None)
@given(
    height=sizes,
    width=sizes,
    crop=st.tuples(sizes, sizes),
    rotate=st.sampled_from([0.0, 20.0, 180.0]),
    grayscale=st.sampled_from([0.0, 1.0]),
    base=st.sampled_from([(1.0, None), (0.3, None), (1.0, 20)]),
    seed=st.integers(0, 2**32),
)
def test_exact_size_whatever_comes(
    height: int,
    width: int,
    crop: tuple[int, int],
    rotate: float,
    grayscale: float,
    base: tuple[float, int | None],
    seed: int,
) -> None:
    transform = semantic_transform(
        crop=crop,
        mean=MEAN,
        std=STD,
        base_scale=base[0],
        base_short=base[1],
        rotate=rotate,
        grayscale=grayscale,
    )
    torch.manual_seed(seed)
    image, labels = transform(*scene(height, width))
    assert type(image) is Tensor
    assert type(labels) is Tensor
    assert (image.shape, image.dtype) == ((3, *crop), torch.float32)
    assert (labels.shape, labels.dtype) == (crop, torch.int64)
    assert torch.isfinite(image).all()
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3, 4, 255}


def test_small_images_are_padded_below_and_right() -> None:
    transform = semantic_transform(crop=(12, 20), mean=MEAN, std=STD, scale=(1, 1), flip=0, photometric=False)
    image, labels = scene(5, 7)
    out, out_labels = transform(image, labels)
    expected = (image.float() - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(out[:, :5, :7], torch.Tensor(expected))
    assert torch.equal(out_labels[:5, :7], labels.long())
    for rest, value in ((out[:, 5:], 0), (out[..., 7:], 0), (out_labels[5:], 255), (out_labels[:, 7:], 255)):
        assert (rest == value).all()


@settings(max_examples=100, deadline=None)
@given(
    height=sizes,
    width=sizes,
    scaled=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    data=st.data(),
)
def test_window_equals_resizing_everything(
    height: int, width: int, scaled: tuple[int, int], data: st.DataObject
) -> None:
    image, labels = scene(height, width)
    pixels, values = image.permute(1, 2, 0).numpy(), labels.numpy()
    top, left = (data.draw(st.integers(0, size - 1)) for size in scaled)
    window = (
        top,
        left,
        data.draw(st.integers(1, scaled[0] - top)),
        data.draw(st.integers(1, scaled[1] - left)),
    )
    rows, columns = slice(top, top + window[2]), slice(left, left + window[3])

    whole = np.asarray(Image.fromarray(pixels).resize(scaled[::-1], Image.Resampling.BILINEAR))
    # Pillow adds the weights in a fixed-point sum; where the window starts may move its rounding by one.
    part = windows.resample(image, scaled, window).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(part - whole[rows, columns]).max() <= 1

    between = torch.nn.functional.interpolate(image.float()[None], scaled, mode="bilinear", align_corners=False)[0]
    part = windows.interpolate(image, scaled, window)
    assert part.dtype == torch.uint8
    assert (part.float() - between[:, rows, columns]).abs().max() <= 0.502

    nearest = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], scaled, mode="nearest-exact")
    exact = np.array([[values[int((2 * y + 1) * height // (2 * scaled[0])),
                              int((2 * x + 1) * width // (2 * scaled[1]))]
                       for x in range(scaled[1])] for y in range(scaled[0])])  # fmt: skip
    np.testing.assert_array_equal(windows.nearest(labels, scaled, window), exact[rows, columns])
    # torch computes source indices in float32, which differs where a centre falls on a border of two pixels.
    agree = nearest[0, 0].numpy() == exact
    assert agree.mean() > 0.5 or agree.size < 10


@pytest.mark.parametrize(("antialias", "expected"), [(True, 127), (False, 255)])
@pytest.mark.parametrize("rotate", [0.0, 1e-9])
def test_training_resizes_as_the_input_says(antialias: bool, expected: int, rotate: float) -> None:
    """Columns of white and black; a quarter as large, the nearest two pixels of every centre are white."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[:, 1::4] = pixels[:, 2::4] = 255
    image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
    transform = train_transform(
        SemanticAugment(crop=(24, 24), scale=(0.25, 0.25), photometric="none", max_class_share=1, rotate=rotate),
        InputSpec(mean=(0.0,) * 3, std=(1.0,) * 3, antialias=antialias),
    )
    found, _ = transform(image, tv_tensors.Mask(torch.zeros(128, 128, dtype=torch.uint8)))
    assert (found[..., 1:-1] - expected).abs().max() <= 1


def test_image_and_labels_stay_aligned() -> None:
    """A picture painted with its own labels still shows them after scaling, rotation and flip."""
    row, column = np.mgrid[:120, :160]
    labels = ((row // 30) + (column // 40)) % 3
    pixels = np.stack([labels * 100] * 3, axis=-1).astype(np.uint8)
    pair = (
        tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1)),
        tv_tensors.Mask(torch.from_numpy(labels.astype(np.uint8))),
    )
    transform = semantic_transform(crop=(64, 64), mean=(0.0,) * 3, std=(1.0,) * 3, photometric=False, rotate=25)
    for seed in range(20):
        torch.manual_seed(seed)
        image, out = transform(*pair)
        known = out < 255
        agree = ((image[0] / 100).round() == out)[known].float().mean()
        # A shift by half a grid cell would leave a third.
        assert agree > 0.9
        assert known.float().mean() > 0.3


def test_rotation_fills_with_mean_and_ignore() -> None:
    image, labels = scene(40, 40)
    crop = window_of((40, 40), rotate=45, max_class_share=1, fill=(10, 20, 30))
    torch.manual_seed(3)
    out, out_labels = crop(image, labels)
    assert out_labels[0, 0] == 255
    assert out[:, 0, 0].tolist() == [10, 20, 30]
    assert out_labels[20, 20] < 255


def test_rotated_crop_inside_the_image_has_no_empty_corners() -> None:
    image, labels = scene(200, 200)
    crop = window_of((20, 20), rotate=45, max_class_share=1)
    filled = 0
    for seed in range(30):
        torch.manual_seed(seed)
        _, out = crop(image, labels)
        filled += int((out == 255).sum() == 0)
    assert filled > 25


def rare_scene() -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Class 1 takes a fifth of the image, in one corner; most crops see class 0 alone."""
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    labels[:45, :45] = 1
    return tv_tensors.Image(torch.zeros(3, 100, 100, dtype=torch.uint8)), tv_tensors.Mask(labels)


def share_of_good_crops(crop: SemanticWindow) -> float:
    pair = rare_scene()
    good = 0
    for seed in range(100):
        torch.manual_seed(seed)
        good += largest_ratio(crop(*pair)[1]) < 0.75
    return good / 100


def test_class_share_rule() -> None:
    without = share_of_good_crops(window_of((30, 30), max_class_share=1))
    once = share_of_good_crops(window_of((30, 30), tries=1))
    with_rule = share_of_good_crops(window_of((30, 30)))
    assert without < 0.35
    assert without < once < with_rule
    # Eleven independent attempts.
    assert with_rule > 0.8
    assert with_rule == pytest.approx(1 - (1 - without) ** 11, abs=0.1)


def test_crop_that_cannot_be_balanced_is_taken_in_the_end() -> None:
    image, labels = scene(50, 50, classes=1)
    torch.manual_seed(0)
    assert window_of((30, 30))(image, labels)[1].shape == (30, 30)


def test_largest_ratio_leaves_ignored_pixels_out() -> None:
    assert largest_ratio(torch.tensor([0, 0, 0, 1], dtype=torch.uint8)) == 0.75
    assert largest_ratio(torch.tensor([0, 1] + [255] * 20, dtype=torch.uint8)) == 0.5
    assert largest_ratio(torch.tensor([3, 3, 255], dtype=torch.uint8)) == 1
    assert largest_ratio(torch.tensor([255, 255], dtype=torch.uint8)) == 1


def test_scale_is_uniform_and_relative() -> None:
    def drawn(**options: float) -> list[int]:
        crop = window_of((1, 1), scale=(0.5, 2.0), **options)
        torch.manual_seed(0)
        return [crop.draw_size(100, 200)[0] for _ in range(400)]

    full = drawn()
    assert 50 <= min(full) < 55
    assert 195 < max(full) <= 200
    assert np.mean(full) == pytest.approx(125, abs=6)
    assert [round(value * 0.6) for value in full] == pytest.approx(drawn(base_scale=0.6), abs=1)
    assert [value * 3 for value in full] == pytest.approx(drawn(base_short=300), abs=2)


def test_the_shortest_edge_is_one_of_several_and_the_longest_has_a_maximum() -> None:
    crop = window_of((1, 1), scale=(1, 1), base_short=(50, 80, 120), base_long=200)
    torch.manual_seed(0)
    drawn = {crop.draw_size(100, 200) for _ in range(100)}
    assert drawn == {(50, 100), (80, 160), (100, 200)}  # 120 would make the longest edge 240
    # mmsegmentation resizes Cityscapes' images to 1025 x 2049 for crops of 769 x 769.
    assert window_of((1, 1), scale=(1, 1), base_short=1025, base_long=2049).draw_size(1024, 2048) == (1025, 2049)
    # The maximum is multiplied by the random factor too.
    assert window_of((1, 1), scale=(2, 2), base_short=50, base_long=100).draw_size(10, 50) == (40, 200)


def test_seed_decides_everything() -> None:
    transform = semantic_transform(crop=(32, 48), mean=MEAN, std=STD, rotate=10, grayscale=0.3)
    image, labels = scene(60, 70)

    def run(seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        return transform(image, labels)

    first = [run(seed) for seed in range(10)]
    for seed, (expected, expected_labels) in enumerate(first):
        out, out_labels = run(seed)
        assert torch.equal(out, expected)
        assert torch.equal(out_labels, expected_labels)
    assert len({out.sum().item() for out, _ in first}) == 10


def test_input_is_not_changed() -> None:
    image, labels = scene(30, 30)
    copy, copy_labels = image.clone(), labels.clone()
    transform = semantic_transform(crop=(30, 30), mean=MEAN, std=STD, scale=(1, 1))
    for _ in range(10):
        transform(image, labels)
    assert torch.equal(image, copy)
    assert torch.equal(labels, copy_labels)


def test_flip_turns_both() -> None:
    image, labels = scene(8, 9)
    transform = semantic_transform(
        crop=(8, 9), mean=(0.0,) * 3, std=(1.0,) * 3, scale=(1, 1), flip=1, photometric=False
    )
    out, out_labels = transform(image, labels)
    assert torch.equal(out, image.float().flip(-1))
    assert torch.equal(out_labels, labels.long().flip(-1))


@pytest.mark.parametrize(
    ("setting", "step"),
    [
        (True, PhotometricDistort),
        ("published", PhotometricDistort),
        ("mild", MildPhotometricDistort),
        (False, None),
        ("none", None),
    ],
)
def test_photometric_says_which_distortion(setting: object, step: type | None) -> None:
    transform = semantic_transform(crop=(8, 8), photometric=setting)
    found = [type(s) for s in transform.transforms if isinstance(s, (PhotometricDistort, MildPhotometricDistort))]
    assert found == ([step] if step else [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": (0, 5)},
        {"scale": (2.0, 0.5)},
        {"scale": (0.0, 1.0)},
        {"base_scale": 0.0},
        {"base_short": 0},
        {"base_short": ()},
        {"base_long": 100},
        {"max_class_share": 0.0},
        {"max_class_share": 75.0},
        {"tries": -1},
    ],
)
def test_bad_arguments(wrong: dict[str, object]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=name):
        semantic_transform(**{"crop": (8, 8), **wrong})


def test_angle_is_within_bounds() -> None:
    crop = window_of((8, 8), rotate=10)
    angles = [crop.make_params(list(scene(20, 20)))["angle"] for _ in range(50)]
    assert max(map(math.fabs, angles)) <= 10
    assert min(angles) < -3
    assert max(angles) > 3


def test_channels_are_ordered_before_they_are_normalised() -> None:
    """As in prediction: mean and std are in the order of the channels, and what fills corners is the mean."""
    image, labels = scene(40, 40)
    options = {"crop": (40, 40), "scale": (1, 1), "flip": 0, "photometric": False, "max_class_share": 1, "rotate": 45}
    torch.manual_seed(3)
    rgb, _ = semantic_transform(**options)(image, labels)
    torch.manual_seed(3)
    bgr, _ = semantic_transform(mean=MEAN[::-1], std=STD[::-1], channels="bgr", **options)(image, labels)
    torch.testing.assert_close(bgr, rgb.flip(0))
    assert rgb[:, 0, 0].tolist() == [0, 0, 0]


def test_transforms_can_be_pickled() -> None:
    """Workers that are spawned get the transform so."""
    transform = semantic_transform(crop=(32, 48), rotate=10, grayscale=0.3, channels="bgr")
    results = []
    for made in (transform, pickle.loads(pickle.dumps(transform))):
        torch.manual_seed(5)
        results.append(made(*scene(60, 70)))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))
