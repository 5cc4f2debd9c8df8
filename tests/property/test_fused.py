"""Means of windows and of passes are those of whole maps, computed without them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core import (
    RenderedPass,
    Rendering,
    Resize,
    Subdivision,
    fused_labels,
    fused_probabilities,
    labels_of,
    mean_of_windows,
    renderings,
    resized,
)
from pointrend.core.sparse import fused
from pointrend.predict import Slide


def smooth(classes: int, size: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * F.interpolate(torch.randn(1, classes, 3, 3, generator=generator), size=size, mode="bilinear")


def rendering_of(logits: Tensor, *resizes: Resize) -> Rendering:
    (found,) = renderings(logits, lambda points: points, Subdivision(1, 0), resizes=resizes, keep_logits=True)
    return found


def probabilities(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return torch.cat((1 - logits.sigmoid(), logits.sigmoid()), dim=1)
    return logits.softmax(dim=1)


@given(
    classes=st.sampled_from((1, 2, 5, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    passes=st.integers(1, 4),
    budget=st.sampled_from((1, 2000, 2**27)),
    seed=st.integers(0, 10**6),
)
def test_passes_are_averaged_as_whole_maps(
    classes: int, size: tuple[int, int], passes: int, budget: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    made, total = [], torch.zeros(1, max(2, classes), *size)
    for number in range(passes):
        grid = tuple(torch.randint(1, 30, (2,), generator=rng).tolist())
        logits = smooth(classes, grid, seed + number)  # type: ignore[arg-type]
        mirrored = bool(torch.randint(2, (), generator=rng))
        made.append(RenderedPass(rendering_of(logits, Resize(size)), mirrored))
        whole = F.interpolate(logits, size=size, mode="bilinear")
        total += probabilities(whole.flip(3) if mirrored else whole) / passes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "MEANS_BYTES", budget if size[0] * size[1] < 200 else 2**25)
        labels = fused_labels(made)
        values, classes_found = fused_probabilities(made, 2)
    best_two = total.topk(2, dim=1).values[0]
    clear = best_two[0] - best_two[1] > 1e-5
    assert torch.equal(labels[clear].long(), total.argmax(dim=1)[0][clear])
    assert torch.equal(classes_found[0][clear], total.argmax(dim=1)[0][clear])
    assert torch.allclose(values, best_two, atol=1e-5)


@given(
    classes=st.sampled_from((1, 3, 40)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    crop=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    ratio=st.tuples(st.floats(0.3, 1), st.floats(0.3, 1)),
    last=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    seed=st.integers(0, 10**6),
)
def test_windows_are_averaged_as_whole_maps(
    classes: int,
    size: tuple[int, int],
    crop: tuple[int, int],
    ratio: tuple[float, float],
    last: tuple[int, int],
    seed: int,
) -> None:
    stride = (max(1, round(crop[0] * ratio[0])), max(1, round(crop[1] * ratio[1])))
    windows = Slide(crop, stride).windows(size)
    total, count, parts = torch.zeros(1, classes, *size), torch.zeros(size), []
    for number, (left, top, right, bottom) in enumerate(windows):
        logits = smooth(classes, (bottom - top, right - left), seed + number)
        parts.append(rendering_of(logits))
        total[:, :, top:bottom, left:right] += logits
        count[top:bottom, left:right] += 1
    assert (count >= 1).all()
    mean = mean_of_windows(parts, windows, size)
    expected = total / count
    assert torch.allclose(mean.logits(), expected[0], atol=1e-5)
    final, whole = resized(mean, Resize(last)), F.interpolate(expected, size=last, mode="bilinear")
    for found, wanted in ((mean, expected), (final, whole)):
        margins = wanted[0].abs()[0] if classes == 1 else wanted[0].topk(2, dim=0).values.diff(dim=0)[0].abs()
        clear = margins > 1e-4
        assert torch.equal(found.labels[clear].long(), labels_of(wanted, dim=1)[0][clear])
    assert torch.allclose(final.logits(), whole[0], atol=1e-4)


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    crop=st.tuples(st.integers(16, 200), st.integers(16, 200)),
    ratio=st.tuples(st.floats(1 / 16, 1), st.floats(1 / 16, 1)),
)
def test_windows_have_the_crops_size_and_cover_every_pixel(
    size: tuple[int, int], crop: tuple[int, int], ratio: tuple[float, float]
) -> None:
    stride = (max(-(-crop[0] // 16), int(crop[0] * ratio[0])), max(-(-crop[1] // 16), int(crop[1] * ratio[1])))
    windows = Slide(crop, stride).windows(size)
    covered = torch.zeros(size, dtype=torch.bool)
    for left, top, right, bottom in windows:
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
        assert (bottom - top, right - left) == (min(crop[0], size[0]), min(crop[1], size[1]))
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert len(set(windows)) == len(windows)
    # mmsegmentation's number of windows.
    rows, columns = (max(s - c + t - 1, 0) // t + 1 for s, c, t in zip(size, crop, stride, strict=True))
    assert len(windows) == rows * columns


def test_windows_must_cover_the_image() -> None:
    part = rendering_of(torch.randn(1, 2, 4, 4))
    with pytest.raises(ValueError, match="windows must cover the image"):
        mean_of_windows([part], [(0, 0, 4, 4)], (4, 5))
    with pytest.raises(ValueError, match="a window of 4 x 3 has labels"):
        mean_of_windows([part], [(0, 0, 3, 4)], (4, 3))
