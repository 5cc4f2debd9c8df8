from __future__ import annotations

import numpy as np
import pytest

from pointrend.data.classes import ClassInfo
from pointrend.viz import brightened, draw_instances, draw_overlay, is_background, outline_width

BACKGROUND = ClassInfo("background", (0, 0, 0))
CAT = ClassInfo("cat", (250, 10, 20))
DOG = ClassInfo("dog", (20, 10, 250))


def scene(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A grey photograph; background, and in the middle a cat beside a dog."""
    image = np.random.default_rng(0).integers(90, 110, (height, width, 3), np.uint8)
    labels = np.zeros((height, width), np.uint8)
    labels[height // 4 : -height // 4, width // 4 : width // 2] = 1
    labels[height // 4 : -height // 4, width // 2 : -width // 4] = 2
    return image, labels


def picture(image: np.ndarray, labels: np.ndarray, **settings: float) -> np.ndarray:
    drawn = np.asarray(draw_overlay(image, labels, (BACKGROUND, CAT, DOG), **settings))
    return drawn[: labels.shape[0], : labels.shape[1]]


def test_background_stays_and_classes_are_mixed_in() -> None:
    image, labels = scene()
    drawn = picture(image, labels, alpha=0.25)
    assert np.array_equal(drawn[labels == 0], image[labels == 0])
    for y, x, info in ((30, 25, CAT), (30, 50, DOG)):
        mixed = 0.75 * image[y, x] + 0.25 * np.array(info.color)
        assert np.abs(drawn[y, x].astype(float) - mixed).max() <= 1


def test_outlines_are_one_pixel_of_pure_colour_inside_of_the_class() -> None:
    image, labels = scene()
    drawn = picture(image, labels)
    rows = slice(20, 40)
    for column, color in ((20, CAT.color), (39, CAT.color), (40, DOG.color), (59, DOG.color)):
        assert (drawn[rows, column] == color).all()
    for column in (21, 38, 41, 58):
        assert not (drawn[rows, column] == CAT.color).all(axis=-1).any()
        assert not (drawn[rows, column] == DOG.color).all(axis=-1).any()
    assert (drawn[15, 20:40] == CAT.color).all()


def test_outlines_grow_with_the_picture() -> None:
    assert outline_width((1, 1)) == outline_width((832, 550)) == outline_width((1080, 1920)) == 1
    assert outline_width((3000, 4000)) == 3
    image, labels = scene(2400, 3200)
    drawn = picture(image, labels)
    width = outline_width(labels.shape)
    assert width == 2
    assert (drawn[1000, 800 : 800 + width] == CAT.color).all()
    assert not (drawn[1000, 800 + width] == CAT.color).all()
    assert np.array_equal(drawn[1000, 798:800], image[1000, 798:800])


def test_alpha_ends() -> None:
    image, labels = scene()
    assert (picture(image, labels, alpha=1)[labels == 1] == CAT.color).all()
    inside = np.s_[20:40, 22:38]
    assert np.array_equal(picture(image, labels, alpha=0)[inside], image[inside])


def test_labels_that_are_no_class_are_left_alone() -> None:
    image, labels = scene()
    labels[20:30, 22:30] = 255
    drawn = picture(image, labels)
    assert np.array_equal(drawn[labels == 255], image[labels == 255])


@pytest.mark.parametrize(
    ("index", "info", "expected"),
    [
        (0, BACKGROUND, True),
        (3, ClassInfo("Background", (9, 9, 9)), True),
        (0, ClassInfo("other", (0, 0, 0)), True),
        (1, ClassInfo("tyre", (0, 0, 0)), False),
        (0, ClassInfo("sky", (128, 128, 128)), False),
    ],
)
def test_background(index: int, info: ClassInfo, expected: bool) -> None:
    assert is_background(index, info) is expected


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 16), (40, 900), (900, 40), (600, 400), (400, 600)])
def test_legend_lies_outside_of_the_picture_and_shows_what_occurs(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 100, np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[-1, -1] = 2
    drawn = draw_overlay(image, labels, (BACKGROUND, CAT, DOG))
    height, width = size
    assert (drawn.width >= width and drawn.height > height) if width >= height else drawn.width > width
    pixels = np.asarray(drawn).copy()
    pixels[:height, :width] = 255
    occurring = {tuple(int(v) for v in c) for c in np.unique(pixels.reshape(-1, 3), axis=0)}
    assert DOG.color in occurring
    assert CAT.color not in occurring
    assert (0, 0, 0) in occurring  # the text


def test_legend_is_readable_beside_large_and_small_pictures() -> None:
    def swatch(size: tuple[int, int]) -> int:
        """The height of the dog's square in the legend, and so of the text."""
        labels = np.full(size, 2, np.uint8)
        drawn = draw_overlay(np.zeros((*size, 3), np.uint8), labels, (BACKGROUND, CAT, DOG))
        legend = np.asarray(drawn)[size[0] :]
        return int((legend == DOG.color).all(axis=-1).any(axis=1).sum())

    assert swatch((8, 8)) >= 11
    assert swatch((1500, 2000)) >= 0.02 * 2000


def test_a_legend_of_150_classes_fits() -> None:
    classes = tuple(ClassInfo(f"a rather long name {i}", (i, 255 - i, 7)) for i in range(150))
    labels = np.arange(150, dtype=np.uint8).reshape(10, 15)
    drawn = np.asarray(draw_overlay(np.zeros((10, 15, 3), np.uint8), labels, classes))
    found = {tuple(int(v) for v in c) for c in np.unique(drawn[10:].reshape(-1, 3), axis=0)}
    assert {c.color for c in classes} <= found


@pytest.mark.parametrize(
    ("image", "alpha", "said"),
    [
        (np.zeros((4, 5, 3), np.uint8), 0.5, r"\(H, W, 3\) for labels"),
        (np.zeros((4, 4), np.uint8), 0.5, r"\(H, W, 3\) for labels"),
        (np.zeros((4, 4, 3), np.uint8), 1.5, r"alpha must be in \[0, 1\], got 1.5"),
    ],
)
def test_wrong_arguments_are_refused(image: np.ndarray, alpha: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw_overlay(image, np.zeros((4, 4), np.uint8), (BACKGROUND, CAT), alpha=alpha)


def test_dark_images_are_stretched_and_others_left_alone() -> None:
    grey = np.tile(np.arange(40, dtype=np.uint8), (30, 1))[..., None].repeat(3, axis=2)
    stretched = brightened(grey)
    assert 215 <= stretched.max() <= 230
    assert (np.diff(stretched[0, :, 0].astype(int)) > 0).all()
    light = grey + 100
    assert brightened(light) is light
    assert not brightened(np.zeros((5, 5, 3), np.uint8)).any()
    labels = np.zeros((30, 40), np.uint8)
    assert np.asarray(draw_overlay(grey, labels, [ClassInfo("background", (0, 0, 0))]))[:30, :40].max() > 200
    crops = [((0, 0, 5, 5), np.ones((5, 5), bool))]
    assert np.asarray(draw_instances(grey, crops, [0], [ClassInfo("cell", (9, 9, 9))])).max() > 200
