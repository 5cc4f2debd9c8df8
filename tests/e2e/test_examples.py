"""Every example runs, says what it did, and writes its picture; notebooks give what is kept in them."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

nbclient = pytest.importorskip("nbclient", reason="the extra dev is not installed")
nbformat = pytest.importorskip("nbformat")

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "count_nuclei": r"^\d+ nuclei; area in pixels: median \d+",
    "crisp": r"left coarse, right rendered; \d+ pixels differ",
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


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_give_what_they_show(path: Path, tmp_path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    assert sum(len(cell.source.splitlines()) for cell in kept.cells if cell.cell_type == "code") < 60
    again = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(again, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    for before, after in zip(kept.cells, again.cells, strict=True):
        assert shown(after) == shown(before)


def shown(cell: Any) -> list[str]:
    """What a cell prints, but for warnings, and the kinds of what it shows."""
    outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
    return [output.text if output.output_type == "stream" else str(sorted(output.data)) for output in outputs]
