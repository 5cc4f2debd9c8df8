"""Imports point one way: from lower layers and the own unit, wherever in the code the import stands."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pointrend"

# From the bottom up; units are the packages and modules directly in pointrend. docs/design.md gives reasons.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"core", "devices", "files", "overlap", "peak", "processes", "progress", "rle", "strict", "timing"}),
    frozenset({"models", "data", "metrics"}),
    frozenset({"objectives", "spec"}),
    frozenset({"inputs", "recipes", "viz"}),
    frozenset({"contact_sheet", "references", "results"}),
    frozenset({"predict", "scoring"}),
    frozenset({"tasks"}),
    frozenset({"zoo"}),
    frozenset({"evaluation", "explain", "export", "precisions", "refining", "verify"}),
    frozenset({"cutting", "report", "training"}),
    frozenset({"studies"}),
    frozenset({"cli", "serve"}),
    frozenset({"__init__", "__main__"}),
)
LAYER_OF = {unit: height for height, layer in enumerate(LAYERS) for unit in layer}


def unit_of(path: Path) -> str:
    """The unit of a file in the package: "core" for core/points.py, "files" for files.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str) -> set[str]:
    """Every module that a source text imports, dotted; `from a import b` counts as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(unit: str, source: str) -> list[str]:
    """The units that `source`, a file of `unit`, imports but must not."""
    units = set()
    for name in imported(source):
        first, _, rest = name.partition(".")
        found = rest.split(".")[0]
        # The version is read from the installed package's metadata, so anyone may ask for it.
        if first == "pointrend" and found != "__version__":
            # Other names that are no unit, such as pointrend.load_model, live in __init__, above everything.
            units.add(found if found in LAYER_OF else "__init__")
    return sorted(u for u in units - {unit} if LAYER_OF[u] >= LAYER_OF[unit])


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    unit = unit_of(path)
    assert unit in LAYER_OF, f"{unit} has no layer: give it one here and in docs/design.md"
    assert violations(unit, path.read_text()) == []


def test_core_needs_torch_alone() -> None:
    allowed = set(sys.stdlib_module_names) | {"torch", "pointrend"}
    for path in (PACKAGE / "core").rglob("*.py"):
        names = imported(path.read_text())
        assert {name.partition(".")[0] for name in names} <= allowed, path
        assert all(n.startswith("pointrend.core") for n in names if n.startswith("pointrend")), path


@pytest.mark.parametrize(
    ("unit", "source", "expected"),
    [
        ("core", "from pointrend.models import PointHead", ["models"]),
        ("core", "import pointrend.data.images", ["data"]),
        ("data", "def f():\n    from pointrend.metrics import metrics_named", ["metrics"]),
        ("predict", "from pointrend import evaluation", ["evaluation"]),
        ("predict", "from pointrend import evaluate", ["__init__"]),
        ("zoo", "from pointrend import load_model", ["__init__"]),
        ("zoo", "from pointrend import __version__", []),
        ("training", "from pointrend.files import atomic_path\nfrom pointrend.training.recipe import Recipe", []),
    ],
)
def test_the_rule_tells_right_from_wrong(unit: str, source: str, expected: list[str]) -> None:
    assert violations(unit, source) == expected


@pytest.mark.parametrize("module", ["pointrend", "pointrend.cli"])
def test_torch_is_imported_late(module: str) -> None:
    """`pointrend --help` answers at once because nothing heavy is imported for it."""
    heavy = "{'torch', 'torchvision', 'timm', 'matplotlib', 'lightning_fabric'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
