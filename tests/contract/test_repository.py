"""Rules of the house that no other tool checks."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from pointrend.tasks import TASKS
from pointrend.training.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
TEXT_SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".cff", ".json", ".cfg", ".txt"}
FOLDERS = ("src", "tests", "docs", "benchmarks", "examples", "scripts", ".ci", ".github")

# Where packages come from is the business of whoever installs them. Brackets keep the pattern from matching itself.
INDEX = re.compile(r"index[-_]u[r]l|find-l[i]nks|py[p]i\.|python[h]osted|/simple[/]|pytorch\.org/w[h]l")


def text_files() -> list[Path]:
    """The project's own text files, without what is generated."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        files += (path for path in (ROOT / folder).rglob("*") if path.is_file())
    named = {"Makefile", "run"}
    ours = (path for path in files if path.suffix in TEXT_SUFFIXES or path.name in named)
    return sorted(path for path in ours if not {"__pycache__", "out"} & set(path.parts))


def test_files_are_small() -> None:
    counts = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "src").rglob("*.py")
    }
    assert len(counts) > 20
    assert {name: count for name, count in counts.items() if count >= MAX_LINES} == {}


def test_no_package_index_is_named() -> None:
    files = text_files()
    assert ROOT / "pyproject.toml" in files
    assert ROOT / "Makefile" in files
    found = [path for path in files if INDEX.search(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("text", ["pip install --index" + "-url x", "https://py" + "pi.org/simple" + "/torch"])
def test_the_index_pattern_finds_indices(text: str) -> None:
    assert INDEX.search(text)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.task == "refinement" or recipe.data.layout
    # A backbone without the strides, or a width that its norm cannot take, would fail on the user's machine.
    with torch.device("meta"):
        TASKS[recipe.task].network(3, recipe.model)


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == released[0]


def test_decisions_are_numbered_and_short() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    assert numbers[0] == 1
    assert all(after == before + 1 for before, after in pairwise(numbers))
    for page, number in zip(pages, numbers, strict=True):
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# {number}. ")
        assert len(lines) <= 40
