"""What implementations of PointRend got wrong, one test a mistake; the numbers are those of docs/design.md, section 4.

Every test has a check, the wrong implementation, and ours: the check must pass ours and fail the wrong one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core import (
    SubdivisionStep,
    most_uncertain_points,
    multiclass_uncertainty,
    pixel_centers,
    point_cross_entropy,
    regular_grid,
    resized_labels,
    sample_labels,
    sample_points,
    semantic_cross_entropy,
    subdivide,
    training_points,
    uncertainty,
    write_points,
)
from pointrend.data.classes import ClassInfo
from pointrend.models import Backbone, PointHead, SemanticFPNHead, SemanticPointRend, semantic_pointrend
from pointrend.predict import Dense, SemanticPredictor, cropped
from pointrend.zoo.modelfile import Model, SemanticModel
from pointrend.zoo.spec import InputSpec, SemanticArchitecture, SemanticSpec, TestSpec

CLASSES = (ClassInfo("dark", (0, 0, 0)), ClassInfo("bright", (255, 255, 255)))


# 1


def two_halves(classes: int) -> Tensor:
    """Logits (1, C, 8, 8): the left half is sure of one label, the right half of another."""
    logits = torch.full((1, classes, 8, 8), -4.0)
    logits[:, 0, :, 4:] = 4.0
    if classes > 1:
        logits[:, 1, :, :4] = 4.0
    return logits


def map_of_uncertainties(logits: Tensor, points: Tensor) -> Tensor:
    return sample_points(uncertainty(logits, dim=1).unsqueeze(1), points).squeeze(2)


def logits_sorted_per_pixel(logits: Tensor, points: Tensor) -> Tensor:
    return uncertainty(sample_points(logits.sort(dim=1, descending=True).values, points), dim=2)


@pytest.mark.parametrize(
    ("classes", "wrong"), [(1, map_of_uncertainties), (3, map_of_uncertainties), (3, logits_sorted_per_pixel)]
)
def test_uncertainty_is_computed_on_sampled_logits(classes: int, wrong: Callable[[Tensor, Tensor], Tensor]) -> None:
    """1: between logits of -4 and +4 lies an edge, which a map of uncertainties no longer has."""
    logits = two_halves(classes)
    on_edge, inside = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.2, 0.5]]])

    def sees_the_edge(measured: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return bool(measured(logits, on_edge) > measured(logits, inside) + 1)

    assert sees_the_edge(lambda logits, points: uncertainty(sample_points(logits, points), dim=2))
    assert not sees_the_edge(wrong)

    chosen = training_points(
        logits,
        num_points=64,
        oversample=20,
        importance=1,
        generator=torch.Generator().manual_seed(0),
        padding="border",
    )
    assert (chosen[..., 0] - 0.5).abs().max() < 1 / 8


# 2


def test_sampling_pads_with_zeros_and_upsampling_clamps() -> None:
    """2: the published weights were trained with both; `padding="border"` is for new models."""
    ones = torch.ones(1, 1, 4, 4)

    def fades(sample: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return torch.allclose(
            sample(ones, torch.tensor([[[0.0, 0.5], [1.0, 1.0]]])).flatten(), torch.tensor([0.5, 0.25])
        )

    assert fades(sample_points)
    assert not fades(lambda features, points: sample_points(features, points, padding="border"))

    def stays(upsampled: Tensor) -> bool:
        return torch.allclose(upsampled, torch.ones(1, 1, 8, 8))

    def never_asked(points: Tensor) -> Tensor:
        return torch.ones(1, points.shape[1], 1)

    assert stays(subdivide(ones, never_asked, num_points=1, steps=1))
    assert not stays(sample_points(ones, regular_grid((8, 8))).transpose(1, 2).view(1, 1, 8, 8))


def test_a_model_reads_the_border_as_it_was_told() -> None:
    """2: zero padding is a model's default, and reaches the fine features and the coarse logits."""
    output = None
    corner = torch.zeros(1, 1, 2)
    for padding, expected in (("zeros", 0.25), ("border", 1.0)):
        network = sums_of_inputs(padding)
        output = output or network(torch.ones(1, 3, 64, 64))
        assert network.point_logits(output, corner).item() == pytest.approx(expected)
    assert SemanticPointRend(**sums_of_inputs("zeros").parts()).padding == "zeros"  # type: ignore[arg-type]


# 3


def test_coordinates_are_half_pixel_centres() -> None:
    """3: with `align_corners=True` the centres would lie at i / (W - 1)."""
    ramp = ((torch.arange(4) + 0.5) / 4).expand(1, 1, 4, 4)
    points = torch.tensor([[[0.125, 0.5], [0.3, 0.5], [0.875, 0.5]]])

    def returns_x(sample: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return torch.allclose(sample(ramp, points).flatten(), points[0, :, 0], atol=1e-6)

    def aligned_corners(features: Tensor, points: Tensor) -> Tensor:
        grid = 2 * points.unsqueeze(2) - 1
        return F.grid_sample(features, grid, align_corners=True).squeeze(3).transpose(1, 2)

    assert returns_x(sample_points)
    assert not returns_x(aligned_corners)

    def names_the_pixel(centers: Tensor) -> bool:
        return torch.allclose(sample_points(ramp, centers.unsqueeze(0))[0, :, 0], ramp[0, 0, 0])

    indices = torch.arange(4)
    assert names_the_pixel(pixel_centers(indices, (4, 4)) + torch.tensor([0.0, 0.25]))
    assert not names_the_pixel(torch.stack((indices / 4, torch.full((4,), 0.375)), dim=1))  # corners, not centres


def test_training_points_measure_uncertainty_at_half_pixel_centres() -> None:
    """3: the logits are zero at x = 1/4; with aligned corners they would seem to be at 1/6."""
    logits = torch.tensor([-3.0, 3.0, 9.0, 9.0]).expand(1, 1, 4, 4)

    def boundary(points: Tensor) -> float:
        return points[0, :, 0].mean().item()

    candidates = torch.rand(1, 4000, 2, generator=torch.Generator().manual_seed(0))
    seen = F.grid_sample(logits, 2 * candidates.unsqueeze(2) - 1, align_corners=True, padding_mode="border")
    wrong = candidates[:, seen.view(-1).abs().argsort()[:100]]
    ours = training_points(
        logits,
        num_points=100,
        oversample=40,
        importance=1,
        generator=torch.Generator().manual_seed(0),
        padding="border",
    )
    assert boundary(ours) == pytest.approx(1 / 4, abs=0.01)
    assert boundary(wrong) == pytest.approx(1 / 6, abs=0.01)


# 4


def test_several_fine_maps_are_concatenated_at_inference_too() -> None:
    """4: the renderer must read what the point head was trained on: all maps, side by side."""
    torch.manual_seed(0)
    network = semantic_pointrend(
        num_classes=3,
        backbone="test_resnet",
        fpn_channels=32,  # as many as the map at stride 2 has: any way of joining them has fitting shapes
        coarse_channels=16,
        point_hidden=16,
        fine_strides=(4, 2),
    ).eval()
    assert network.backbone.channels[0] == 32
    nn.init.normal_(network.point_head.classifier.weight)
    with torch.no_grad():
        output = network(torch.randn(1, 3, 64, 64))
        size = (output.coarse.shape[2] * 2, output.coarse.shape[3] * 2)
        rendered = network.render(output, num_points=size[0] * size[1], steps=1)

        def as_trained(join: Callable[[list[Tensor]], Tensor]) -> bool:
            points = regular_grid(size)
            fine = join([sample_points(f, points) for f in output.fine])
            logits = network.point_head(fine, sample_points(output.coarse, points))
            return torch.allclose(rendered, logits.transpose(1, 2).view_as(rendered), atol=1e-4)

        assert as_trained(lambda maps: torch.cat(maps, dim=2))
        assert not as_trained(lambda maps: torch.cat((maps[0], maps[0]), dim=2))  # P2 alone
        assert not as_trained(lambda maps: torch.cat(maps[::-1], dim=2))
        assert not as_trained(lambda maps: (maps[0] + maps[1]).repeat(1, 1, 2))


# 6


@pytest.mark.parametrize("number", [7, 8192])
def test_the_number_of_points_is_the_models(number: int) -> None:
    """6: mmsegmentation has 8196, detectron2 8192, the paper 8096."""
    model = brightness_model(num_points=number, steps=1, shortest=256)
    pixels = np.zeros((256, 256, 3), dtype=np.uint8)
    predictor = SemanticPredictor(model)

    def points_of(steps: Iterator[SubdivisionStep]) -> int:
        return next(steps).points.shape[1]

    dense = predictor.dense(pixels)
    assert points_of(predictor.subdivision_steps(dense)) == number
    assert points_of(model.network.subdivision_steps(dense.output, steps=1)) != number  # a constant of ours
    asked = SemanticPredictor(model, num_points=11)
    assert points_of(asked.subdivision_steps(asked.dense(pixels))) == 11


# 7


def test_the_margin_is_that_of_logits_not_of_probabilities() -> None:
    """7: the two rank these pixels differently."""
    logits = torch.tensor([[5.0, 4.0, -9.0], [1.1, 0.0, 0.0]])  # margins 1.0 and 1.1

    def first_is_less_certain(measured: Tensor) -> bool:
        return bool(measured[0] > measured[1])

    assert first_is_less_certain(multiclass_uncertainty(logits, dim=1))
    assert not first_is_less_certain(multiclass_uncertainty(logits.softmax(1), dim=1))  # 0.46 and 0.40

    chosen, _ = most_uncertain_points(multiclass_uncertainty(logits, dim=1).view(1, 1, 2), 1)
    assert chosen.item() == 0


# 8


def test_labels_are_sampled_nearest_and_ignore_stays_ignore() -> None:
    """8: between the labels 1 and 3 there is no 2, and between 1 and 255 no 128."""
    labels = torch.tensor([[[1, 3, 3, 255], [1, 1, 255, 255]]])
    points = torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0))

    def invents_nothing(read: Tensor) -> bool:
        return set(read.unique().tolist()) == {1, 3, 255}

    def interpolated(labels: Tensor, points: Tensor) -> Tensor:
        return sample_points(labels.float().unsqueeze(1), points, padding="border").squeeze(2).round().long()

    assert invents_nothing(sample_labels(labels, points))
    assert not invents_nothing(interpolated(labels, points))

    logits = torch.zeros(1, 500, 4)
    loss = point_cross_entropy(logits, sample_labels(labels, points))
    torch.testing.assert_close(loss, torch.tensor(4.0).log())
    with pytest.raises(ValueError, match="labels must be 0 to 3, or 255"):
        point_cross_entropy(logits, interpolated(labels, points))


# 9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_and_sampling_stay_float32_under_autocast(dtype: torch.dtype) -> None:
    """9: half precision cannot tell 2048 columns apart."""
    ramp = torch.arange(2048.0).expand(1, 1, 2, 2048)
    points = regular_grid((1, 2048))

    def all_columns(sampled: Tensor) -> bool:
        return torch.allclose(sampled.flatten().float(), torch.arange(2048.0), atol=0.01)

    with torch.autocast("cpu", torch.bfloat16):
        assert all_columns(sample_points(ramp, points))
        assert regular_grid((1, 2048)).dtype == torch.float32
    assert not all_columns(sample_points(ramp, points.to(dtype).float()))
    with pytest.raises(ValueError, match="half precision moves them"):
        sample_points(ramp, points.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_point_predictions_of_another_type_can_be_written_back(dtype: torch.dtype) -> None:
    """9: the head answers in half precision under autocast, the map is float32."""
    logits, indices = torch.zeros(1, 2, 2, 2), torch.tensor([[1, 2]])
    predicted = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=dtype)

    def writes(write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> bool:
        try:
            written = write(logits, indices, predicted)
        except RuntimeError:
            return False
        return written[0, 0].tolist() == [[0, 1], [3, 0]] and written.dtype == torch.float32

    def plain(logits: Tensor, indices: Tensor, predicted: Tensor) -> Tensor:
        index = indices.unsqueeze(1).expand(-1, logits.shape[1], -1)
        return logits.flatten(2).scatter(2, index, predicted.transpose(1, 2)).view_as(logits)

    assert writes(write_points)
    assert not writes(plain)


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

    rendered = subdivide(coarse, lambda p: torch.zeros(1, p.shape[1], 2), num_points=4, steps=2)
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
    result = SemanticPredictor(brightness_model(num_points=10**6, shortest=min(size)))(pixels)
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
    predictor = SemanticPredictor(brightness_model(num_points=10**6, shortest=50, pad_multiple=32))
    dense = predictor.dense(pixels)
    assert (dense.padded, dense.valid, dense.size) == ((64, 96), size, size)
    rendered = predictor.rendered_logits(dense)

    def is_right(labels: Tensor) -> bool:
        return torch.equal(labels, expected)

    def by_the_valid_size(points: Tensor) -> Tensor:
        scale = torch.tensor([70 / 96, 50 / 64])
        return predictor.network.point_logits(dense.output, points * scale)

    shifted = subdivide(dense.output.coarse, by_the_valid_size, num_points=10**6, steps=2)

    assert is_right(torch.from_numpy(predictor(pixels).labels).long())
    assert is_right(resized_labels(cropped(rendered, dense), size)[0])
    assert not is_right(resized_labels(rendered, size)[0])  # resized without a crop
    assert not is_right(resized_labels(cropped(shifted, dense), size)[0])


@pytest.mark.parametrize("multiple", [2, 8, 32, 48])
@pytest.mark.parametrize("size", [(33, 47), (64, 96), (61, 130)])
def test_padding_does_not_move_a_prediction(size: tuple[int, int], multiple: int) -> None:
    """15: the same picture, whatever it is padded to, both rows; some pixels at the boundary may differ."""
    pixels = brightness_image(size)
    predictor = SemanticPredictor(brightness_model(num_points=10**6, shortest=min(size), pad_multiple=multiple))
    coarse, rendered = predictor.compare(pixels)
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
    dense = Dense(output=sums_of_inputs("zeros")(torch.zeros(1, 3, *padded)), padded=padded, valid=valid, size=valid)
    grid = (16 * scale, 24 * scale)
    x = regular_grid(grid)[0, :, 0].view(1, 1, *grid) * 96  # in pixels of the input

    def keeps_its_place(part: Tensor) -> bool:
        resized = F.interpolate(part, size=valid, mode="bilinear", align_corners=False)
        return torch.allclose(resized[0, 0, 0, 4:-4], torch.arange(70)[4:-4] + 0.5, atol=1e-3)

    assert keeps_its_place(cropped(x, dense))
    assert not keeps_its_place(x)
    if scale == 1:
        assert not keeps_its_place(x[..., : math.ceil(24 * 70 / 96)])


# A network without weights: its only logit is an image's first channel, coarse at stride 4 and fine at stride 1.


class _Pooled(nn.Module):
    strides = (1, 4, 8, 16, 32)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (images, *(F.avg_pool2d(images, s, ceil_mode=True) for s in self.strides[1:]))


class _Levels(nn.Module):
    def forward(self, levels: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
        return levels


class _FirstChannel(nn.Module):
    def forward(self, pyramid: list[Tensor]) -> Tensor:
        return pyramid[0][:, :1]


class _ReadsTheImage(nn.Module):
    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return fine[..., 3:4]  # P2's three channels come first


class _Sum(nn.Module):
    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        return torch.cat((fine, coarse), dim=2).mean(2, keepdim=True)


class _Handmade(SemanticPointRend):
    def parts(self) -> dict[str, nn.Module]:
        return {
            "backbone": self.backbone,
            "pyramid": self.pyramid,
            "coarse_head": self.coarse_head,
            "point_head": self.point_head,
        }


def handmade(point_head: nn.Module, padding: str = "zeros") -> _Handmade:
    return _Handmade(
        backbone=cast("Backbone", _Pooled()),
        pyramid=cast("FeaturePyramidNetwork", _Levels()),
        coarse_head=cast("SemanticFPNHead", _FirstChannel()),
        point_head=cast("PointHead", point_head),
        padding=padding,  # type: ignore[arg-type]
    )


def sums_of_inputs(padding: str) -> _Handmade:
    return handmade(_Sum(), padding)


def brightness_model(*, num_points: int, steps: int = 2, shortest: int = 64, pad_multiple: int = 1) -> Model:
    """Labels what is brighter than 127.5; the network sees images at their own size if `shortest` is theirs."""
    spec = SemanticSpec(
        name="brightness",
        architecture=SemanticArchitecture(backbone="none", num_classes=1),
        classes=CLASSES,
        input=InputSpec(mean=(127.5,) * 3, std=(127.5,) * 3),
        test=TestSpec(shortest=shortest, longest=4096, pad_multiple=pad_multiple, num_points=num_points, steps=steps),
    )
    return SemanticModel(network=handmade(_ReadsTheImage()), spec=spec)


def brightness_image(size: tuple[int, int]) -> np.ndarray:
    """Dark, with a bright rectangle that fits no cell of stride 4 and touches two sides of the image."""
    pixels = np.full((*size, 3), 20, dtype=np.uint8)
    pixels[size[0] // 3 :, size[1] // 2 + 1 :] = 230
    return pixels


def test_timms_own_sizes_are_as_assumed() -> None:
    """The wrong half of 10: if timm's stem ever rounds up, the test above compares nothing."""
    model = timm.create_model("test_convnext", features_only=True).eval()
    with torch.no_grad():
        assert [tuple(m.shape[2:]) for m in model(torch.zeros(1, 3, 65, 95))] == [(16, 23), (8, 11), (4, 5), (2, 2)]
