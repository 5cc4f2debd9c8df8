"""The site of the documentation builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="the extra docs is not installed")


def test_the_site_builds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    start = (tmp_path / "site" / "index.html").read_text()
    assert 'src="refined.png"' in start
    assert 'href="cards/people-lite0/"' in start
    assert 'src="examples/cut_out.png"' in start
    assert (tmp_path / "site" / "examples" / "cut_out.png").read_bytes() == (ROOT / "examples/cut_out.png").read_bytes()
    assert "pointrend.refine" in (tmp_path / "site" / "api" / "index.html").read_text()


@pytest.mark.parametrize(
    ("text", "source", "target", "expected"),
    [
        ("[a](docs/refine.md#how)", "README.md", "index.md", "[a](refine.md#how)"),
        ("[a](src/pointrend/weights/people-lite0.md)", "README.md", "index.md", "[a](cards/people-lite0.md)"),
        (
            "[a](../src/pointrend/weights/people-lite0.md)",
            "docs/results.md",
            "results.md",
            "[a](cards/people-lite0.md)",
        ),
        ("[a](../../../docs/refine.md)", "src/pointrend/weights/x.md", "cards/x.md", "[a](../refine.md)"),
        ("[a](../tests/x.py)", "docs/design.md", "design.md", "[a](design.md)"),
        ("[a](https://b.c/d.md)", "README.md", "index.md", "[a](https://b.c/d.md)"),
    ],
)
def test_links_are_those_of_the_site(text: str, source: str, target: str, expected: str) -> None:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert hooks.linked(text, source, target) == expected
