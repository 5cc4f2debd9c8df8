"""Operations and activations against sums made by hand, which round to the paper's table 2."""

from __future__ import annotations

import json

import pytest

from pointrend.cli import main
from pointrend.core import Subdivision
from pointrend.studies import mask_head_costs


def conv_head(side: int, classes: int) -> tuple[int, int]:
    roi = (side // 2) ** 2
    convolutions = 4 * roi * 256 * 256 * 9
    deconvolution = roi * 256 * 256 * 4
    return convolutions + deconvolution + side**2 * 256 * classes, 4 * roi * 256 + side**2 * 256 + side**2 * classes


def point_head(points: int, classes: int) -> tuple[int, int]:
    width = 256 + classes
    return points * (3 * width * 256 + width * classes), points * (3 * 256 + classes)


@pytest.mark.parametrize("classes", [80, 8])
def test_they_are_the_sums_made_by_hand(classes: int) -> None:
    small, large, rendered = mask_head_costs(classes)
    assert (small.operations, small.activations) == conv_head(28, classes)
    assert (large.operations, large.activations) == conv_head(224, classes)
    coarse = 49 * 256 * 256 * 4 + 49 * 256 * 1024 + 1024**2 + 1024 * 49 * classes
    points, of_points = point_head(784, classes)
    assert rendered.operations == coarse + 4 * points
    assert rendered.activations == 49 * 256 + 2 * 1024 + 49 * classes + 4 * of_points
    assert rendered.activations_at_once == of_points
    assert [one.resolution for one in (small, large, rendered)] == [28, 224, 224]


def test_a_step_has_no_more_points_than_its_grid() -> None:
    *_, whole = mask_head_costs(subdivision=Subdivision(num_points=10_000, steps=1, start=28))
    *_, half = mask_head_costs(subdivision=Subdivision(num_points=56 * 56 // 2, steps=1, start=28))
    assert whole.operations - half.operations == point_head(56 * 56 // 2, 80)[0]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "cost", "--json"])
    assert ended.value.code == 0
    (table,) = json.loads(capsys.readouterr().out)
    assert table["rows"] == [
        ["4x conv", "28x28", "0.53 B", "0.46 M", "0.46 M"],
        ["4x conv", "224x224", "33.91 B", "29.70 M", "29.70 M"],
        ["PointRend", "224x224", "0.92 B", "2.68 M", "0.66 M"],
    ]
