"""What implementations of PointRend got wrong in sizes, batches, ties and padding: 10 to 15 in docs/design.md.

Every test has a check, the wrong implementation, and ours: the check must pass ours and fail the wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from handmade import brightness_image, brightness_model
from torch import Tensor

from pointrend.core import (
    Subdivision,
    most_uncertain_points,
    regular_grid,
    resized_labels,
    semantic_cross_entropy,
    subdivide,
)
from pointrend.inputs import Frame
from pointrend.models import (
    Backbone,
)
from pointrend.predict import SemanticPredictor, cropped

# 10


def test_rendering_ends_and_has_the_size_asked_for() -> None:
    """10: a 769-pixel image has a 193-cell grid, and no number of doublings makes 193 into 769."""
    coarse = torch.randn(1, 2, 193, 3, generator=torch.Generator().manual_seed(0))
    target = (769, 9)

    def doubled_until_it_fits(logits: Tensor) -> Tensor:
        for _ in range(6):  # of for ever
            if logits.shape[2:] == target:
                return logits
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        raise RecursionError("it never fits")

    rendered = subdivide(coarse, lambda p: torch.zeros(1, p.shape[1], 2), Subdivision(4, 2))
    assert rendered.shape == (1, 2, 772, 12)
    assert resized_labels(rendered, target).shape == (1, *target)
    with pytest.raises(RecursionError):
        doubled_until_it_fits(coarse)


def test_maps_of_a_size_that_no_stride_divides_are_not_shifted() -> None:
    """10: a stem that rounds down sees 64 of 65 pixels and 64 of 95; its cells are then taken for wider ones."""
    images = torch.randn(1, 3, 65, 95, generator=torch.Generator().manual_seed(0))
    expected = [(17, 24), (9, 12), (5, 6), (3, 3)]

    def sizes(maps: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
        return [tuple(m.shape[2:]) for m in maps]

    with torch.no_grad():
        backbone = Backbone("test_convnext").eval()
        assert sizes(backbone(images)) == expected
        assert sizes(backbone.model(images)) != expected
        whole = F.pad(images, (0, 1, 0, 31))
        for ours, theirs in zip(backbone(images), backbone.model(whole), strict=True):
            assert torch.equal(ours, theirs[:, :, : ours.shape[2], : ours.shape[3]])


@pytest.mark.parametrize("size", [(65, 97), (33, 129), (50, 70)])
def test_a_prediction_has_the_size_of_its_image(size: tuple[int, int]) -> None:
    """10: whatever the stride, the image's labels are of its own size, and where they belong."""
    pixels = brightness_image(size)
    result = brightness_model(num_points=10**6, shortest=min(size)).predict(pixels)
    assert result.labels.shape == size
    wrong = (result.labels != (pixels[:, :, 0] > 127)).mean()
    assert wrong < 0.04  # the grid does not fit the pixels, so some at the boundary may differ


# 11


def test_an_ignored_image_in_a_batch_does_not_poison_it() -> None:
    """11: all-ignored images next to others, and a batch of nothing else."""
    logits = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.randint(4, (3, 5, 5), generator=torch.Generator().manual_seed(1))
    labels[1] = 255

    def torchs(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=255)

    def per_image(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([torchs(a[None], b[None]) for a, b in zip(logits, labels, strict=True)]).mean()

    def is_fine(loss: Callable[[Tensor, Tensor], Tensor]) -> bool:
        mixed, nothing = loss(logits, labels), loss(logits, torch.full_like(labels, 255))
        (gradient,) = torch.autograd.grad(mixed + nothing, logits)
        return bool(mixed.isfinite()) and nothing.item() == 0 and bool(gradient.isfinite().all())

    assert is_fine(semantic_cross_entropy)
    assert not is_fine(torchs)
    assert not is_fine(per_image)
    torch.testing.assert_close(semantic_cross_entropy(logits, labels), torchs(logits[::2], labels[::2]))


# 13


def test_ties_are_compared_by_their_values() -> None:
    """13: `topk` breaks ties arbitrarily, so parity is about sets and values, never about the order."""
    values = (torch.randint(0, 40, (1, 16, 16), generator=torch.Generator().manual_seed(0)) / 8).neg()
    values += torch.linspace(0, 1e-4, 256).view(1, 16, 16)  # nearly tied: half precision sees no difference
    tied = (values * 8).round() / 8

    def is_top(indices: Tensor, values: Tensor, count: int = 50) -> bool:
        chosen = values.flatten(1).gather(1, indices)
        others = values.flatten(1).scatter(1, indices, float("-inf"))
        return indices.unique().numel() == count and bool(chosen.min() >= others.max())

    ours, _ = most_uncertain_points(tied, 50)
    otherwise = 255 - tied.flatten(1).flip(1).argsort(dim=1, descending=True, stable=True)[:, :50]
    assert is_top(ours, tied)
    assert is_top(otherwise, tied)
    assert set(ours[0].tolist()) != set(otherwise[0].tolist())  # a comparison of indices would refuse one of them

    ours, _ = most_uncertain_points(values, 50)
    in_half_precision = values.bfloat16().flatten(1).argsort(dim=1, descending=True, stable=True)[:, :50]
    assert is_top(ours, values)
    assert not is_top(in_half_precision, values)


# 15


def test_points_of_a_padded_input_are_normalised_by_the_padded_size() -> None:
    """15: the network sees 64 x 96, of which 50 x 70 are image; the crop comes before the last resize."""
    size = (50, 70)
    pixels = brightness_image(size)
    expected = torch.from_numpy(pixels[:, :, 0] > 127).long()
    predictor = brightness_model(num_points=10**6, shortest=50, pad_multiple=32).predictor()
    assert isinstance(predictor, SemanticPredictor)
    encoded = predictor.encode(pixels)
    frame = encoded.frame
    assert (frame.padded, frame.valid, frame.size) == ((64, 96), size, size)
    rendered = predictor.rendered_logits(encoded)

    def is_right(labels: Tensor) -> bool:
        return torch.equal(labels, expected)

    def by_the_valid_size(points: Tensor) -> Tensor:
        scale = torch.tensor([70 / 96, 50 / 64])
        return predictor.network.point_logits(encoded.output, points * scale)

    shifted = subdivide(encoded.output.coarse, by_the_valid_size, Subdivision(10**6, 2))

    assert is_right(torch.from_numpy(predictor.predict(pixels).labels).long())
    assert is_right(resized_labels(cropped(rendered, frame), size)[0])
    assert not is_right(resized_labels(rendered, size)[0])  # resized without a crop
    assert not is_right(resized_labels(cropped(shifted, frame), size)[0])


@pytest.mark.parametrize("multiple", [2, 8, 32, 48])
@pytest.mark.parametrize("size", [(33, 47), (64, 96), (61, 130)])
def test_padding_does_not_move_a_prediction(size: tuple[int, int], multiple: int) -> None:
    """15: the same picture, whatever it is padded to, both rows; some pixels at the boundary may differ."""
    pixels = brightness_image(size)
    model = brightness_model(num_points=10**6, shortest=min(size), pad_multiple=multiple)
    rows = model.predictor().compare(pixels)
    coarse, rendered = (torch.from_numpy(rows[row].labels).long() for row in ("coarse", "pointrend"))
    expected = torch.from_numpy(pixels[:, :, 0] > 127).long()
    for labels in (coarse, rendered):
        assert labels.shape == size
        moved = torch.stack([(labels.roll(shift, dim) != expected).sum() for dim in (0, 1) for shift in (-3, 3)])
        assert (labels != expected).sum() < moved.min()
    assert (rendered != expected).float().mean() < 0.04


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_the_crop_ends_where_the_image_ends(scale: int) -> None:
    """15: at stride 4 the image may end inside of a cell; whole cells would stretch the image by up to three pixels."""
    padded, valid = (64, 96), (50, 70)
    frame = Frame(padded=padded, valid=valid, size=valid)
    grid = (16 * scale, 24 * scale)
    x = regular_grid(grid)[0, :, 0].view(1, 1, *grid) * 96  # in pixels of the input

    def keeps_its_place(part: Tensor) -> bool:
        resized = F.interpolate(part, size=valid, mode="bilinear", align_corners=False)
        return torch.allclose(resized[0, 0, 0, 4:-4], torch.arange(70)[4:-4] + 0.5, atol=1e-3)

    assert keeps_its_place(cropped(x, frame))
    assert not keeps_its_place(x)
    if scale == 1:
        assert not keeps_its_place(x[..., : math.ceil(24 * 70 / 96)])


def test_timms_own_sizes_are_as_assumed() -> None:
    """The wrong half of 10: if timm's stem ever rounds up, the test above compares nothing."""
    model = timm.create_model("test_convnext", features_only=True).eval()
    with torch.no_grad():
        assert [tuple(m.shape[2:]) for m in model(torch.zeros(1, 3, 65, 95))] == [(16, 23), (8, 11), (4, 5), (2, 2)]
