"""Rendering near boundaries is the dense loop: the same points but for ties, and with these the same labels.

Every comparison replays the dense reference with the points that the sparse renderer chose. Margins closer than
`8 * eps * max |logit|` are ties, of which either may be chosen.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pointrend.core import Subdivision, labels_of, resized_labels, sample_points, subdivide, uncertainty, write_points
from pointrend.core.sparse import cells
from pointrend.core.sparse import render as render_module
from pointrend.core.sparse.render import Resize, render_labels, renderings

KINDS = ("random", "smooth", "constant", "tied", "checkerboard", "one class", "steps")


def make_logits(kind: str, classes: int, size: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, classes, *size)
    noise = torch.randn(shape, generator=generator)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    if kind == "smooth":
        return F.interpolate(torch.randn(1, classes, 2, 2, generator=generator), size=size, mode="bilinear") * 3
    if kind == "constant":
        return torch.full(shape, 0.7)
    if kind == "tied":  # eighths make doubling exact, so ties stay ties
        return (noise * 2).round() / 8
    if kind == "checkerboard":
        logits = torch.zeros(shape)
        logits[0, (classes > 1) * 1] = ((x + y) % 2) * 2.0 - 1
        return logits
    if kind == "one class":
        return noise * 0.1 + torch.eye(max(classes, 1))[seed % classes].view(1, -1, 1, 1) * 5
    if kind == "steps":  # a photo's: large areas, one boundary
        logits = noise * 0.01
        logits[0, 0] += torch.where(x * 2 > y + size[1] // 2, 4.0, -4.0)
        return logits
    return noise * 3


def make_predict(classes: int, seed: int) -> render_module.PointPredictor:
    maps = torch.randn(1, classes, 7, 9, generator=torch.Generator().manual_seed(seed + 1)) * 2

    def predict(points: Tensor) -> Tensor:
        return sample_points(maps.expand(len(points), -1, -1, -1), points, padding="border")

    return predict


class Recorded:
    """A predictor that remembers what it was asked."""

    def __init__(self, predict: render_module.PointPredictor) -> None:
        self.predict = predict
        self.asked: list[Tensor] = []

    def __call__(self, points: Tensor) -> Tensor:
        self.asked.append(points)
        return self.predict(points)


def indices_of(points: Tensor, size: tuple[int, int]) -> Tensor:
    place = (points * torch.tensor((size[1], size[0]))).floor().long()
    return place[..., 1] * size[1] + place[..., 0]


def replayed(
    logits: Tensor, recorded: Recorded, num_points: int, resizes: tuple[Resize, ...], independent: bool
) -> tuple[Tensor, float]:
    """The dense loop with recorded points, which must be right up to ties: logits at the last size, and the tie."""
    largest = float(logits.abs().max())
    for points in recorded.asked:
        logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        height, width = logits.shape[2:]
        chosen = indices_of(points, (height, width))
        margins = -uncertainty(logits, dim=1, independent=independent).flatten(1)
        tie = 8 * torch.finfo(torch.float32).eps * largest
        for own, places in zip(margins, chosen, strict=True):
            assert len(places.unique()) == len(places) == min(num_points, height * width)
            others = torch.ones(len(own), dtype=torch.bool)
            others[places] = False
            if others.any():
                assert float(own[places].max()) <= float(own[others].min()) + tie
        predicted = recorded.predict(points)
        largest = max(largest, float(predicted.abs().max()))
        logits = write_points(logits, chosen, predicted)
    for resize in resizes:
        height, width = resize.crop or logits.shape[2:]
        logits = F.interpolate(logits[:, :, :height, :width], size=resize.size, mode="bilinear", align_corners=False)
    return logits, 8 * torch.finfo(torch.float32).eps * largest


def check(
    logits: Tensor,
    classes: int,
    num_points: int,
    steps: int,
    resizes: tuple[Resize, ...],
    seed: int,
    independent: bool = False,
) -> None:
    recorded, subdivision = Recorded(make_predict(classes, seed)), Subdivision(num_points, steps)
    made = renderings(logits, recorded, subdivision, resizes=resizes, keep_logits=True, independent=independent)
    assert len(recorded.asked) == steps
    expected, tie = replayed(logits, recorded, num_points, resizes, independent)
    margins = -uncertainty(expected, dim=1, independent=independent)
    wanted = labels_of(expected, dim=1, independent=independent)
    for index, one in enumerate(made):
        differ = one.labels.long() != wanted[index]
        assert float(margins[index][differ].max() if differ.any() else 0) <= tie
        assert torch.allclose(one.logits(), expected[index], atol=max(tie, 1e-6), rtol=1e-5)
        assert torch.allclose(one.margins(), margins[index], atol=max(2 * tie, 1e-6), rtol=1e-5)
    again = render_labels(logits, make_predict(classes, seed), subdivision, resizes=resizes, independent=independent)
    assert again.shape == wanted.shape
    assert again.dtype == (torch.int32 if independent and classes > 8 else torch.uint8)
    assert torch.equal(resized_labels(expected, wanted.shape[1:], independent=independent), wanted)
    for index, one in enumerate(made):
        differ = again[index] != one.labels
        assert float(margins[index][differ].max() if differ.any() else 0) <= tie


sides = st.integers(1, 12)


@st.composite
def last_resizes(draw: st.DrawFn, size: tuple[int, int]) -> tuple[Resize, ...]:
    resizes: list[Resize] = []
    for _ in range(draw(st.integers(0, 2))):
        crop = (draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))) if draw(st.booleans()) else None
        size = (draw(st.integers(1, 50)), draw(st.integers(1, 50)))
        resizes.append(Resize(size, crop))
    return tuple(resizes)


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(KINDS), seed=st.integers(0, 1000))
@pytest.mark.parametrize("dense_ratio", [1, 4])
@pytest.mark.parametrize("independent", [False, True])
def test_it_is_the_dense_loop(data: st.DataObject, independent: bool, dense_ratio: int, kind: str, seed: int) -> None:
    classes = data.draw(st.sampled_from((1, 2, 3, 12, 31) if independent else (1, 2, 3, 5, 40)))
    size = (data.draw(sides), data.draw(sides))
    steps = data.draw(st.integers(0, 3))
    num_points = data.draw(st.integers(1, 4**steps * size[0] * size[1] + 3))
    resizes = data.draw(last_resizes((size[0] * 2**steps, size[1] * 2**steps)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_module, "DENSE_RATIO", dense_ratio)
        # Small portions and little memory, so that both run out.
        patch.setattr(render_module, "CHUNK", data.draw(st.sampled_from((32, 512, 2**16))))
        patch.setattr(cells, "BLOCK", data.draw(st.sampled_from((1, 20, 2**16))))
        patch.setattr(render_module, "CACHE_BYTES", data.draw(st.sampled_from((0, 2000, 2**27))))
        check(make_logits(kind, classes, size, seed), classes, num_points, steps, resizes, seed, independent)


@settings(max_examples=25)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=3), seed=st.integers(0, 1000))
def test_images_of_a_batch_are_rendered_alone(kinds: list[str], seed: int) -> None:
    logits = torch.cat([make_logits(kind, 4, (6, 9), seed + i) for i, kind in enumerate(kinds)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render_module, "DENSE_RATIO", 1)
        check(logits, 4, 20, 2, (Resize((31, 40), crop=(20, 33)),), seed)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_layouts_and_types(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    logits = make_logits("smooth", 5, (9, 11), 0).to(dtype).contiguous(memory_format=memory_format)
    predict = make_predict(5, 0)
    made = render_labels(logits, predict, Subdivision(30, 2))
    wide = logits if dtype in (torch.float32, torch.float64) else logits.float()
    expected = subdivide(wide, lambda p: predict(p).to(wide.dtype), Subdivision(30, 2))
    assert (made.long() != expected.argmax(1)).float().mean() < 0.01
    before = logits.clone()
    render_labels(logits, predict, Subdivision(30, 2))
    assert torch.equal(before, logits)


def test_as_many_labels_as_there_are() -> None:
    logits = torch.zeros(1, 300, 4, 4)
    logits[:, 280] = 1
    made = render_labels(logits, make_predict(300, 0), Subdivision(1, 1))
    assert made.dtype == torch.int32
    assert (made == 280).sum() >= 63


def test_what_stands_behind_labels() -> None:
    logits = make_logits("steps", 4, (20, 30), 3)
    predict = make_predict(4, 3)
    (made,) = renderings(logits, predict, Subdivision(50, 2), keep_logits=True)
    full = subdivide(logits, predict, Subdivision(50, 2))[0]
    window = (40, 10, 75, 31)
    assert torch.allclose(made.logits(window), full[:, 10:31, 40:75], atol=1e-5)
    values, labels = made.probabilities(3, window)
    expected = full[:, 10:31, 40:75].softmax(0).topk(3, dim=0)
    assert torch.allclose(values, expected.values, atol=1e-5)
    assert (labels != expected.indices).float().mean() < 0.01
    assert made.margins(window).shape == (21, 35)
    binary = renderings(logits[:, :1], lambda p: predict(p)[..., :1], Subdivision(5, 1), keep_logits=True)[0]
    values, labels = binary.probabilities(2)
    assert torch.allclose(values.sum(0), torch.ones(()))
    assert torch.equal(labels[0].bool(), binary.labels.bool())
    for wrong in ((0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 121, 5), (5, 5, 4, 9)):
        with pytest.raises(ValueError, match="inside of 120 x 80"):
            made.logits(wrong)


def test_logits_that_are_not_finite_are_refused() -> None:
    logits = torch.full((1, 2, 8, 8), torch.inf)
    logits[:, 1] = -torch.inf
    with pytest.raises(ValueError, match="logits must be finite"):
        render_labels(logits, make_predict(2, 0), Subdivision(5, 1))


@pytest.mark.parametrize("num_points", [0, -3])
def test_some_points_are_needed(num_points: int) -> None:
    with pytest.raises(ValueError, match="num_points of 1 to"):
        render_labels(torch.zeros(1, 2, 4, 4), make_predict(2, 0), Subdivision(num_points, 1))


MEMORY = """
    import resource, torch
    from pointrend.core import Subdivision, render_labels
    torch.set_num_threads(1)
    kind = {kind!r}
    logits = torch.zeros(1, 40, 64, 128)
    if kind == "one class":
        logits[:, 3] = 4
        logits += torch.randn(logits.shape) * 0.1
    elif kind == "boundary":
        logits[:, 1, :, 50:] = 2
    predict = lambda p: torch.zeros(*p.shape[:2], 40)
    render_labels(logits, predict, Subdivision(100, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    labels = render_labels(logits, predict, Subdivision(1000, 5))
    assert labels.shape == (1, 2048, 4096)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("kind", ["constant", "one class", "boundary"])
def test_memory_does_not_grow_with_classes_times_output(kind: str) -> None:
    """40 classes of 8 megapixels are 1.3 GB; the labels are 8 MB."""
    code = textwrap.dedent(MEMORY).replace("{kind!r}", repr(kind))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert float(done.stdout) < 300e6
