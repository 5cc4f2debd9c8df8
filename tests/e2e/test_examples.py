"""Every example runs, says what it did in one or two lines, and writes its picture."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "count_nuclei": r"^\d+ nuclei; area in pixels: median \d+",
    "crisp": r"left coarse, right rendered; \d+ pixels of hair differ",
    "cut_out": r"\d\d % of the photograph",
    "refine_a_mask": r"left given, right refined; \d+ pixels changed",
    "train_attached": r"^coarse: \d\.\d\d % of the pixels are wrong",
}


def test_all_are_here_and_short() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path
        assert path.with_suffix(".png").is_file()


@pytest.mark.parametrize("name", sorted(SAYS))
def test_it_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.png"
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", str(out)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.search(SAYS[name], said, re.MULTILINE), said
    with Image.open(out) as picture, Image.open(EXAMPLES / f"{name}.png") as kept:
        assert picture.size == kept.size
    if name == "train_attached":
        coarse, rendered = (float(line.split()[1]) for line in said.splitlines()[:2])
        assert rendered < coarse < 5
