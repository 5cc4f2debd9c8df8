"""What implementations of PointRend got wrong, one test a mistake; the numbers are those of docs/design.md, section 4:
points, uncertainty, labels and types; sizes and padding stand in `test_known_mistakes_of_sizes.py`.

Every test has a check, the wrong implementation, and ours: the check must pass ours and fail the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from handmade import brightness_model, sums_of_inputs
from torch import Tensor, nn

from pointrend.core import (
    LABEL_SUBDIVISION,
    Sampling,
    Subdivision,
    SubdivisionStep,
    most_uncertain_points,
    multiclass_uncertainty,
    pixel_centers,
    point_cross_entropy,
    regular_grid,
    sample_labels,
    sample_points,
    subdivide,
    training_points,
    uncertainty,
    write_points,
)
from pointrend.models import (
    PointArchitecture,
    SemanticArchitecture,
    SemanticPointRend,
    semantic_pointrend,
)
from pointrend.predict import PredictOptions

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
        logits, Sampling(64, oversample=20, importance=1), generator=torch.Generator().manual_seed(0), padding="border"
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

    assert stays(subdivide(ones, never_asked, Subdivision(1, 1)))
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
        logits, Sampling(100, oversample=40, importance=1), generator=torch.Generator().manual_seed(0), padding="border"
    )
    assert boundary(ours) == pytest.approx(1 / 4, abs=0.01)
    assert boundary(wrong) == pytest.approx(1 / 6, abs=0.01)


# 4


def test_several_fine_maps_are_concatenated_at_inference_too() -> None:
    """4: the renderer must read what the point head was trained on: all maps, side by side."""
    torch.manual_seed(0)
    network = semantic_pointrend(
        3,
        SemanticArchitecture(
            backbone="test_resnet",
            fpn_channels=32,
            coarse_channels=16,
            fine_strides=(4, 2),
            point=PointArchitecture(hidden=16),
        ),
    ).eval()
    assert network.backbone.channels[0] == 32
    nn.init.normal_(network.point_head.classifier.weight)
    with torch.no_grad():
        output = network(torch.randn(1, 3, 64, 64))
        size = (output.coarse.shape[2] * 2, output.coarse.shape[3] * 2)
        rendered = network.render(output, Subdivision(size[0] * size[1], 1))

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
    predictor = model.predictor()

    def points_of(steps: Iterator[SubdivisionStep]) -> int:
        return next(steps).points.shape[1]

    encoded = predictor.encode(pixels)
    assert points_of(predictor.subdivision_steps(encoded)) == number
    ours = replace(LABEL_SUBDIVISION, steps=1)  # a constant of ours
    assert points_of(model.network.subdivision_steps(encoded.output, ours)) != number
    asked = model.predictor(PredictOptions(points=11))
    assert points_of(asked.subdivision_steps(asked.encode(pixels))) == 11


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
