"""Windows along an outline: they cover it, and blending gives back what one window over all would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from pointrend.core.mask_input import box_sum, mask_channels, outline_band
from pointrend.models import PointArchitecture, PointHead
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.predict.refining.passes import one_pass, refine_plane
from pointrend.predict.refining.windows import Grid, halfway, moved_ratio
from pointrend.spec import RefinerTest

SMALL = RefinerTest(window=64, margin=16, reach=8, extent=12, first=4096, keep=0, passes=1, neighbourhood=33)


class Bright(SemanticNetwork):
    """Says that bright pixels are the object, whatever mask it is given: a refiner whose answer is known."""

    def __init__(self) -> None:
        super().__init__()
        self.point_head = PointHead(in_channels=3, num_classes=1, architecture=PointArchitecture(hidden=1, depth=0))
        self.padding = "border"
        self.backbone = nn.Identity()
        with torch.no_grad():
            self.point_head.classifier.weight.copy_(torch.tensor([[4.0, 0, 0, 0]]))
            self.point_head.classifier.bias.zero_()

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return torch.zeros_like(nn.functional.avg_pool2d(images[:, :1], 4)), images[:, :3]


def normalize(pixels: Tensor) -> Tensor:
    return (pixels.float() - 127.5) / 127.5


def photo(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """An image (3, H, W) with a bright blob on a dark ground, and the blob (H, W) bool."""
    y, x = np.mgrid[: size[0], : size[1]]
    phase = np.random.default_rng(seed).uniform(0, 6, 2)
    blob = np.hypot(y - size[0] / 2, x - size[1] / 2) < min(size) * (0.3 + 0.04 * np.sin(x / 7 + phase[0]))
    image = np.where(blob, 200, 60).astype(np.uint8)
    return torch.from_numpy(image).expand(3, -1, -1).contiguous(), torch.from_numpy(blob)


@pytest.fixture
def every_point() -> RefinerTest:
    return SMALL.model_copy(update={"subdivision": SMALL.subdivision.__class__(num_points=64 * 64, steps=2)})


@drawn(st.integers(5, 200), st.integers(5, 200), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_the_inner_parts_of_windows_cover_what_is_wanted(height: int, width: int, seed: int) -> None:
    wanted = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.01
    grid = Grid((height, width), 64, 16)
    covered, ramped = torch.zeros(grid.padded, dtype=torch.bool), torch.zeros(grid.padded)
    for row, column in grid.corners(wanted):
        assert 0 <= row <= grid.padded[0] - 64
        assert 0 <= column <= grid.padded[1] - 64
        covered[row : row + 64, column : column + 64] = True
        ramped[row : row + 64, column : column + 64] += grid.ramp()
    assert bool(covered[:height, :width][wanted].all())
    assert bool((ramped[:height, :width][wanted] > 0).all())


def test_windows_have_their_margin_on_all_sides() -> None:
    wanted = torch.zeros(512, 512, dtype=torch.bool)
    wanted[100, 200] = True  # in the inner part of rows 96 to 127 and columns 192 to 223
    assert Grid((512, 512), 64, 16).corners(wanted) == [(80, 176)]


def test_the_ramp_is_1_inside_and_falls_over_the_margin() -> None:
    ramp = Grid((64, 64), 64, 16).ramp()
    assert float(ramp[32, 32]) == float(ramp[16, 47]) == 1
    assert float(ramp[32, 0]) == pytest.approx(0.5 / 16)
    assert torch.equal(ramp, ramp.flip(0, 1))


@drawn(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3, 7, 33]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_box_sums_are_those_of_a_loop(height: int, width: int, side: int, seed: int) -> None:
    values = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.4
    reach = side // 2
    expected = [
        [int(values[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].sum()) for x in range(width)]
        for y in range(height)
    ]
    assert box_sum(values, side).tolist() == expected


def test_the_ratio_that_moved_is_that_of_the_neighbourhood() -> None:
    given = torch.zeros(60, 300, dtype=torch.bool)
    given[30:] = True
    changed = torch.zeros_like(given)
    changed[20:30, 20:28] = True  # far, but over 8 columns, which 12 of 65 see
    changed[29, 150:] = True  # a pixel, everywhere
    moved = moved_ratio(given, changed, 65)
    assert moved.dtype == torch.float32
    assert moved[30, 40].item() == pytest.approx(12 / 65, abs=0.02)
    assert bool((moved[30, 190:260] == 1).all())
    assert moved[30, 100].item() == 0
    assert moved_ratio(torch.ones(9, 9, dtype=torch.bool), torch.zeros(9, 9, dtype=torch.bool), 3).sum() == 0


def test_pixels_of_an_outline_move_by_half_a_pixel_or_more() -> None:
    given = torch.zeros(40, 200, dtype=torch.bool)
    given[20:] = True
    for step, expected in ((3, 0), (2, 1)):  # a third of a pixel, half a pixel
        changed = torch.zeros_like(given)
        changed[19, ::step] = True
        ratio = moved_ratio(given, changed, 65)[20, 40:160].mean().item()
        assert round(ratio) == expected


def test_halfway_lies_in_the_middle_of_two_outlines() -> None:
    one, other = torch.zeros(2, 20, 30, dtype=torch.bool)
    one[8:], other[4:] = True, True
    between = halfway(one, other)
    assert between.dtype == torch.float32
    assert bool((between[6:] == 1).all())
    assert bool((between[:6] == 0).all())
    other[7:], other[:7] = True, False
    assert bool((halfway(one, other)[7] == 0.5).all())  # between two pixels
    assert torch.equal(halfway(one, one), one.float())
    nothing = torch.zeros_like(one)
    assert bool((halfway(one, nothing) == 0).all())


@pytest.mark.parametrize(
    ("keep", "times", "row"),
    [(0.0, 2.2, 26), (1.0, 1.0, 30), (0.5, 100.0, 28), (0.4, 1.0, 26)],  # all of the outline moves
)
def test_where_little_moves_the_outline_stays_and_where_some_does_it_goes_half_of_the_way(
    keep: float, times: float, row: int
) -> None:
    image = torch.full((3, 64, 64), -40, dtype=torch.int8).float()
    image[:, 26:] = 40
    given = torch.zeros(64, 64)
    given[30:] = 1
    test = SMALL.model_copy(update={"keep": keep, "halfway": times})
    refined = refine_plane(Bright(), image, given, test, lambda pixels: pixels)
    top = int((refined.soft[:, 32] > 0.5).nonzero()[0])
    assert top == row
    assert bool(refined.kept[28, 32]) == (keep == 1.0)


@drawn(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_band_is_that_of_extremes(images: int, height: int, width: int, reach: int, seed: int) -> None:
    mask = torch.rand(images, 1, height, width, generator=torch.Generator().manual_seed(seed)) < 0.03
    around = functional.pad(mask.float(), (reach,) * 4, value=-1)
    highest = functional.max_pool2d(around, 2 * reach + 1, 1)
    around = functional.pad(-mask.float(), (reach,) * 4, value=-2)
    lowest = -functional.max_pool2d(around, 2 * reach + 1, 1)
    assert torch.equal(outline_band(mask, reach), highest != lowest)


def test_the_band_has_pixels_of_both_sides_within_reach() -> None:
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    mask[..., 10:] = True
    band = outline_band(mask, 3)[0, 0]
    assert band[5].nonzero().flatten().tolist() == list(range(7, 13))


def test_the_mask_channels_are_the_mask_its_blur_and_the_given_one() -> None:
    current, given = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    current[..., 32:] = 1
    channels = mask_channels(current, given)
    assert torch.equal(channels[:, 0], 2 * current[:, 0] - 1)
    assert torch.equal(channels[:, 2], torch.ones(1, 64, 64))
    line = channels[0, 1, 32]
    assert float(line[31] + line[32]) == pytest.approx(0, abs=1e-5)
    # A Gaussian of 5 pixels: a pixel 5.5 from the edge has 1 - 2 * Phi(-1.1).
    assert float(line[37]) == pytest.approx(0.7287, abs=0.01)
    assert float(line[0]) == pytest.approx(-1, abs=1e-5)


@pytest.mark.parametrize("size", [(96, 150), (64, 64), (40, 200), (17, 23), (1, 90)])
def test_windows_give_what_the_network_says_of_every_pixel(size: tuple[int, int], every_point: RefinerTest) -> None:
    image, _ = photo(size)
    soft = torch.full(size, 0.5)  # uncertain everywhere
    refined, count = one_pass(Bright().eval(), image, soft, soft, every_point, normalize)
    assert count >= 1
    expected = torch.sigmoid(4 * normalize(image[0]))
    torch.testing.assert_close(refined, expected, atol=2e-4, rtol=0)


def test_nothing_changes_further_than_the_extent(every_point: RefinerTest) -> None:
    image, blob = photo((160, 160))
    given = torch.zeros(160, 160)
    given[76:84, 76:84] = 1  # a small mask in the middle of the blob
    refined = refine_plane(Bright().eval(), image, given, every_point, normalize)
    changed = (refined.soft > 0.5) != (given > 0.5)
    near = outline_band((given > 0.5)[None, None], every_point.extent)[0, 0]
    assert bool(changed[near].any())
    assert not bool(changed[~near].any())
    assert torch.equal(refined.soft[~near], given[~near])
    assert bool((refined.soft > 0.5)[near & blob].all())


def test_an_outline_that_hardly_moves_is_kept(every_point: RefinerTest) -> None:
    image, blob = photo((160, 160))
    given = blob.float()
    given[80, :] = torch.roll(given[80, :], 1)  # a row moved by a pixel
    moved = refine_plane(Bright().eval(), image, given, every_point, normalize)
    assert torch.equal(moved.soft > 0.5, blob)
    keeps = every_point.model_copy(update={"keep": 0.5, "halfway": 1.5})
    kept = refine_plane(Bright().eval(), image, given, keeps, normalize)
    assert torch.equal(kept.soft, given)
    assert bool(kept.kept.all())
    wrong = outline_band(blob[None, None], 5)[0, 0].float().maximum(blob.float())
    assert torch.equal(refine_plane(Bright().eval(), image, wrong, keeps, normalize).soft > 0.5, blob)


def test_large_objects_are_refined_on_a_smaller_photograph_first(every_point: RefinerTest) -> None:
    image, blob = photo((300, 300))
    given = torch.zeros(300, 300)
    given[100:200, 100:200] = 1
    seen: list[int] = []
    plain = every_point.model_copy(update={"extent": 100, "reach": 8})
    first = plain.model_copy(update={"first": 64})
    before = refine_plane(Bright().eval(), image, given, plain, normalize, seen.append)
    after = refine_plane(Bright().eval(), image, given, first, normalize)
    assert sum(seen) == before.windows
    right = [((found.soft > 0.5) == blob).float().mean() for found in (before, after)]
    assert right[1] > right[0]
    assert float(right[1]) > 0.99


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_masks_without_an_outline_come_back(value: float, every_point: RefinerTest) -> None:
    given = torch.full((70, 90), value)
    found = refine_plane(Bright().eval(), photo((70, 90))[0], given, every_point, normalize)
    assert (found.windows, bool(found.kept.all())) == (0, True)
    assert torch.equal(found.soft, given)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_second_pass_sees_the_mirror_image_and_later_passes_count_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def one(_: object, pixels: Tensor, current: Tensor, given: Tensor, *rest: object) -> tuple[Tensor, int]:
        seen.append(pixels[0].clone())
        result = torch.zeros_like(current)
        result[:, : current.shape[1] // 2] = (0.2, 0.5, 0.8)[len(seen) - 1]  # the left half of what the pass sees
        return result, 1

    monkeypatch.setattr("pointrend.predict.refining.passes.one_pass", one)
    image = torch.arange(40, dtype=torch.uint8).expand(3, 40, 40)
    given = torch.zeros(40, 40)
    given[20:] = 1
    test = SMALL.model_copy(update={"passes": 3, "extent": 40})
    refined = refine_plane(Bright(), image, given, test, normalize)
    assert [plane[0, 0].item() for plane in seen] == [0, 39, 0]
    assert refined.windows == 3
    left, right = refined.soft[20, 3].item(), refined.soft[20, 36].item()
    assert left == pytest.approx((1 * 0.2 + 3 * 0.8) / 6)
    assert right == pytest.approx(2 * 0.5 / 6)


@pytest.mark.parametrize(("probability", "kept"), [(0.69, True), (0.71, False)])
def test_only_sure_moves_count(monkeypatch: pytest.MonkeyPatch, probability: float, kept: bool) -> None:
    def one(_: object, pixels: Tensor, current: Tensor, *rest: object) -> tuple[Tensor, int]:
        result = current.clone()
        result[10:20] = probability
        return result, 1

    monkeypatch.setattr("pointrend.predict.refining.passes.one_pass", one)
    given = torch.zeros(40, 40)
    given[20:] = 1
    test = SMALL.model_copy(update={"keep": 0.25, "extent": 40})
    refined = refine_plane(Bright(), torch.zeros(3, 40, 40, dtype=torch.uint8), given, test, normalize)
    assert bool(refined.kept.all()) == kept
