"""Distortions of colours: the published one against a second, naive implementation of its formulas."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from pointrend.data import colors
from pointrend.data.colors import MildPhotometricDistort, PhotometricDistort


def photograph(side: int = 12, seed: int = 0) -> np.ndarray:
    """An image (side, side, 3) uint8 of all colours, with a mean near 127."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (side, side, 3), np.uint8)


def as_image(pixels: np.ndarray) -> tv_tensors.Image:
    return tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))


def distorted(distort: torch.nn.Module, pixels: np.ndarray, seed: int | None = None) -> np.ndarray:
    if seed is not None:
        torch.manual_seed(seed)
    return np.asarray(distort(as_image(pixels)).permute(1, 2, 0))


# A second implementation, in floating point, from what mmsegmentation's transform is documented to do.


def to_hsv(pixels: np.ndarray) -> np.ndarray:
    return np.array([colorsys.rgb_to_hsv(*(c / 255 for c in pixel)) for pixel in pixels.reshape(-1, 3).tolist()])


def from_hsv(hsv: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rgb = [colorsys.hsv_to_rgb(*pixel) for pixel in hsv.tolist()]
    return (np.array(rgb) * 255).round().astype(np.uint8).reshape(shape)


def scaled(pixels: np.ndarray, alpha: float = 1.0, beta: float = 0.0) -> np.ndarray:
    return np.clip(pixels.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


def saturated(pixels: np.ndarray, alpha: float) -> np.ndarray:
    hsv = to_hsv(pixels)
    hsv[:, 1] = np.clip(hsv[:, 1] * alpha, 0, 1)
    return from_hsv(hsv, pixels.shape)


def turned(pixels: np.ndarray, steps: int) -> np.ndarray:
    hsv = to_hsv(pixels)
    hsv[:, 0] = (hsv[:, 0] + steps / 180) % 1
    return from_hsv(hsv, pixels.shape)


def naive(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    def maybe(change: Callable[[np.ndarray], np.ndarray]) -> None:
        nonlocal pixels
        if rng.random() < 0.5:
            pixels = change(pixels)

    def contrast(p: np.ndarray) -> np.ndarray:
        return scaled(p, alpha=rng.uniform(0.5, 1.5))

    maybe(lambda p: scaled(p, beta=rng.uniform(-32, 32)))
    early = rng.random() < 0.5
    if early:
        maybe(contrast)
    maybe(lambda p: saturated(p, rng.uniform(0.5, 1.5)))
    maybe(lambda p: turned(p, int(rng.integers(-18, 18))))
    if not early:
        maybe(contrast)
    return pixels


def measures(results: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    """The mean, the contrast and the saturation of each image, and the ratio of its red in all colours."""
    found = []
    for pixels in results:
        values = pixels.astype(np.float64)
        largest, smallest = values.max(axis=2), values.min(axis=2)
        saturation = np.mean((largest - smallest) / np.maximum(largest, 1))
        red = values[..., 0].sum() / max(1.0, values.sum())
        found.append((values.mean(), values.mean(axis=2).std(), saturation, red))
    return dict(zip(("mean", "contrast", "saturation", "red"), np.array(found).T, strict=True))


def test_the_published_distortion_is_as_strong_as_its_formulas_say() -> None:
    """Means and spreads of 1500 draws each, on an image whose colours lie on one side of the hue circle."""
    pixels = photograph()
    pixels[..., 0] = np.maximum(pixels[..., 0], 120)
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    draws = 1500
    ours = measures(distorted(PhotometricDistort(), pixels) for _ in range(draws))
    theirs = measures(naive(pixels, rng) for _ in range(draws))
    for name, values in ours.items():
        spread = theirs[name].std()
        assert abs(values.mean() - theirs[name].mean()) < 4 * spread * (2 / draws) ** 0.5, name
        assert values.std() == pytest.approx(spread, rel=0.08), name


def test_spread_of_the_mean() -> None:
    """About 28 grey levels for an image of medium grey, where the mild distortion has 5."""
    pixels = photograph()
    spreads = {}
    for distort in (PhotometricDistort(), MildPhotometricDistort()):
        torch.manual_seed(0)
        means = [distorted(distort, pixels).mean() for _ in range(1500)]
        spreads[type(distort).__name__] = float(np.std(means))
    assert spreads["PhotometricDistort"] == pytest.approx(28, abs=2)
    assert spreads["MildPhotometricDistort"] == pytest.approx(5, abs=1)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """Distort with chosen draws: which steps happen, in their order, and where in its range each number lies."""

    def run(pixels: np.ndarray, chosen: list[bool], *, at: float = 1.0, hue: int = 0) -> np.ndarray:
        monkeypatch.setattr(colors, "_chosen", iter(chosen).__next__)
        monkeypatch.setattr(colors, "uniform", lambda low, high: low + at * (high - low))
        monkeypatch.setattr(torch, "randint", lambda low, high, size: torch.tensor(hue))
        return distorted(PhotometricDistort(), pixels)

    return run


Forced = Callable[..., np.ndarray]
# Which are drawn: brightness, contrast is last, contrast (early), saturation, hue; or ..., saturation, hue, contrast.


@pytest.mark.parametrize(("at", "beta"), [(0.0, -32), (1.0, 32), (0.6, 6.4)])
def test_brightness_is_added(forced: Forced, at: float, beta: float) -> None:
    pixels = photograph(30)
    found = forced(pixels, [True, True, False, False, False], at=at)
    assert np.array_equal(found, scaled(pixels, beta=beta))


@pytest.mark.parametrize(("at", "alpha"), [(0.0, 0.5), (1.0, 1.5), (0.3, 0.8)])
@pytest.mark.parametrize("last", [True, False])
def test_contrast_is_multiplied_about_black(forced: Forced, at: float, alpha: float, last: bool) -> None:
    pixels = photograph(30)
    found = forced(pixels, [False, True, False, False, True] if last else [False, False, True, False, False], at=at)
    assert np.array_equal(found, scaled(pixels, alpha=alpha))


@pytest.mark.parametrize(("at", "alpha"), [(0.0, 0.5), (1.0, 1.5)])
def test_saturation_is_multiplied_in_hsv(forced: Forced, at: float, alpha: float) -> None:
    pixels = photograph(30)
    found = forced(pixels, [False, True, True, False, False], at=at)
    assert np.abs(found.astype(int) - saturated(pixels, alpha).astype(int)).max() <= 7  # Pillow's hue has 8 bits
    assert np.abs(found.astype(float) - saturated(pixels, alpha)).mean() < 1.5


@pytest.mark.parametrize("steps", [-18, -5, 0, 17])
def test_hue_turns_by_steps_of_two_degrees(forced: Forced, steps: int) -> None:
    pixels = photograph(30)
    found = forced(pixels, [False, True, False, True, False], hue=steps)
    assert np.abs(found.astype(int) - turned(pixels, steps).astype(int)).max() <= 10
    assert np.abs(found.astype(float) - turned(pixels, steps)).mean() < 2


def test_contrast_comes_before_saturation_or_last(forced: Forced) -> None:
    """Clipped channels tell the order."""
    pixels = np.full((4, 4, 3), (200, 120, 90), np.uint8)
    early = forced(pixels, [False, False, True, True, False])[0, 0]
    last = forced(pixels, [False, True, True, False, True])[0, 0]
    assert np.abs(early.astype(int) - saturated(scaled(pixels, 1.5), 1.5)[0, 0]).max() <= 5
    assert np.abs(last.astype(int) - scaled(saturated(pixels, 1.5), 1.5)[0, 0]).max() <= 5
    assert np.abs(early.astype(int) - last).max() > 10


def test_hues_are_drawn_from_minus_18_to_17(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    kept = colors._hues
    monkeypatch.setattr(colors, "_hues", lambda steps: (drawn.append(steps), kept(steps))[1])
    torch.manual_seed(0)
    for _ in range(1500):
        PhotometricDistort()(as_image(photograph(2)))
    assert set(drawn) == set(range(-18, 18))
    assert len(drawn) == pytest.approx(750, abs=90)


@pytest.mark.parametrize("distort", [PhotometricDistort(), MildPhotometricDistort()], ids=["published", "mild"])
def test_distortion_changes_colours_and_never_exchanges_channels(distort: torch.nn.Module) -> None:
    image = tv_tensors.Image(torch.tensor([200, 60, 30], dtype=torch.uint8)[:, None, None].expand(3, 8, 8))
    labels = tv_tensors.Mask(torch.zeros(8, 8, dtype=torch.uint8))
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        out, same = distort(image, labels)
        assert same is labels
        assert (out.dtype, out.shape) == (torch.uint8, (3, 8, 8))
        red, green, blue = out[:, 4, 4].tolist()
        seen.add((red, green, blue))
        # Hue moves by a tenth of the circle at most: red stays the largest.
        assert red == max(red, green, blue)
    assert (200, 60, 30) in seen
    assert len(seen) > 30


def test_the_mild_distortion_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contrast changes about the mean, before saturation or last."""
    image = as_image(photograph(8))
    picture = F.to_pil_image(image)
    first = F.adjust_saturation(F.adjust_contrast(picture, 1.5), 1.5)
    last = F.adjust_contrast(F.adjust_saturation(picture, 1.5), 1.5)
    monkeypatch.setattr(colors, "uniform", lambda low, high: high)
    found = []
    # Is contrast last? Then brightness, contrast or saturation, saturation or hue, hue or contrast.
    for drawn in ([False, False, True, True, False], [True, False, True, False, True]):
        monkeypatch.setattr(colors, "_chosen", iter(drawn).__next__)
        found.append(MildPhotometricDistort()(image))
    assert torch.equal(found[0], F.pil_to_tensor(first))
    assert torch.equal(found[1], F.pil_to_tensor(last))
    assert not torch.equal(found[0], found[1])
