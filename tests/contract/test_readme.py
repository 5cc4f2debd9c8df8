"""What README and pages with recipes show runs: Python is executed, commands, options, settings and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from pointrend.cli import app
from pointrend.training.recipe import RecipeError, load_recipe, recipe_names
from pointrend.zoo import list_models

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES_WITH_PYTHON = ("README.md", "docs/parts.md", "docs/attach.md")


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The fenced blocks of a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no {language} block"
    return found


def python_blocks() -> dict[str, str]:
    """All Python that is shown, by the page and the block's number."""
    return {f"{page}:{i}": code for page in PAGES_WITH_PYTHON for i, code in enumerate(blocks("python", page))}


def commands(program: str) -> list[list[str]]:
    """The arguments of every call of a program in README's shell blocks."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [line[1:] for line in lines if line and line[0] == program]


def named_models(text: str) -> set[str]:
    return set(re.findall(r"load_model\(\"([\w-]+)\"\)", text))


SLOW = ("docs/attach.md:0",)
"""It trains for a minute."""


@pytest.mark.parametrize(
    "block", [pytest.param(block, marks=pytest.mark.slow) if block in SLOW else block for block in python_blocks()]
)
def test_python_runs(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    code = python_blocks()[block]
    if '"DATA/' in code:  # skips without real images
        (tmp_path / "DATA").symlink_to(request.getfixturevalue("test_data").resolve())
    if missing := named_models(code) - {entry.name for entry in list_models()}:
        pytest.skip(f"needs the bundled weights of {', '.join(missing)}, which this checkout lacks")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, block, "exec"), {"__name__": "__main__"})
    if "save_explanation(" in code:
        shown = sorted(path.name for path in (tmp_path / "shown").iterdir())
        assert shown == ["0008.json", "0008.png", "0008_overlay.png", "explained.png"]
    if "result.save(" in code:
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
            "photo.json",
            "photo.png",
            "photo_overlay.png",
        ]


@pytest.mark.parametrize("arguments", commands("pointrend"), ids=" ".join)
def test_commands_and_their_options_exist(arguments: list[str]) -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert arguments[0] in known
    options = {option for parameter in known[arguments[0]].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= options
    if arguments[0] == "train":
        changes = [value for flag, value in pairwise(arguments) if flag == "--set"]
        load_recipe(arguments[1], changes)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {word for arguments in commands("make") for word in arguments}
    named |= set(re.findall(r"`make ([a-z]+)`", README))
    assert named
    assert named <= targets


def test_quick_start_is_two_commands() -> None:
    section = README.partition("## Quick start")[2].partition("\n## ")[0]
    assert re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL) == ["make demo\nmake test\n"]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipes_are_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cats.yaml"
    path.write_text(text)
    load_recipe(str(path))
    path.write_text(text.replace("backbone_lr", "backbone_rl"))
    with pytest.raises(RecipeError, match=r"backbone_lr"):
        load_recipe(str(path))


def test_every_recipe_is_named() -> None:
    section = README.partition("### Recipes")[2].partition("\n## ")[0]
    assert {name for name in recipe_names() if f"`{name}`" not in section} == set()


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page}: {target}"


def test_python_passes_the_type_checker_of_a_user(tmp_path: Path) -> None:
    for number, code in enumerate(python_blocks().values()):
        (tmp_path / f"block_{number}.py").write_text(code)
    # Of the packages that pointrend uses some are not typed throughout, and reading them takes minutes.
    others = (
        "torch",
        "torchvision",
        "timm",
        "numpy",
        "PIL",
        "matplotlib",
        "pydantic",
        "lightning_fabric",
        "torchmetrics",
        "scipy",
    )
    skipped = f"[mypy-{','.join(f'{name}.*' for name in others)}]\nfollow_imports = skip\n"
    lenient = "disallow_untyped_calls = false\ndisallow_subclassing_any = false\nignore_missing_imports = true\n"
    settings = f"[mypy]\nstrict = true\n{lenient}"
    (tmp_path / "mypy.ini").write_text(settings + skipped)
    options = ["--config-file", "mypy.ini", "--python-executable", sys.executable]
    command = [sys.executable, "-m", "mypy", *options, *map(str, sorted(tmp_path.glob("*.py")))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
