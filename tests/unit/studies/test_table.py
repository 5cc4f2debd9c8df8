from __future__ import annotations

import math

import pytest

from pointrend.studies import Spread, StudyTable


def test_a_spread_is_mean_and_sample_deviation() -> None:
    assert str(Spread((60.0, 61.0, 63.0))) == "61.33 ± 1.53"
    assert Spread((60.0, 61.0, 63.0)).deviation == pytest.approx(math.sqrt(7 / 3))
    assert str(Spread((60.0,))) == "60.00"
    assert str(Spread(())) == str(Spread((math.nan,))) == "-"


def test_tables_as_markdown_and_json() -> None:
    table = StudyTable("sizes", ("size", "mIoU"), (("small", Spread((1.0, 2.0))), ("large", Spread((4.0,)))))
    assert table.markdown() == "| size | mIoU |\n|---|---|\n| small | 1.50 ± 0.71 |\n| large | 4.00 |"
    assert table.to_dict() == {
        "title": "sizes",
        "columns": ["size", "mIoU"],
        "rows": [["small", [1.0, 2.0]], ["large", [4.0]]],
    }
