"""The report of an evaluation: what it says, that it needs nothing else, and how it fits a desk and a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pointrend.cli import main
from pointrend.training import train


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module")
def model(scenes: Path, tiny_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    return train("people-lite0", scenes, out, settings=[*tiny_settings, "train.iterations=30"]).model


@pytest.fixture(scope="module")
def data(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split whose folder and one image have names that would be markup."""
    root = tmp_path_factory.mktemp("data") / "<i>"
    shutil.copytree(scenes / "val", root / "val")
    shutil.copy(scenes / "classes.json", root)
    for name in ("images", "labels"):
        (root / "val" / name / "000.png").rename(root / "val" / name / "<b>a.png")
    return root / "val"


@pytest.fixture(scope="module")
def page(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "mine"
    assert command("eval", model, data, "--fps", "--report", out) == 0
    assert [path.name for path in out.iterdir()] == ["report.html"]
    return out / "report.html"


class Reader(HTMLParser):
    """Tags with attributes, and the text of cells by table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tables: dict[str, list[str]] = {}
        self.tags: list[str] = []
        self._table = self._cell = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [str(found[name]) for name in ("src", "href", "xlink:href", "action") if name in found]
        if tag == "table":
            self._table = found.get("id") or "other"
        self._cell = tag if tag in ("td", "th") else ""

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables.setdefault(self._table, []).append(data)
            self._cell = ""


def test_it_has_the_numbers_of_the_evaluation(
    page: Path, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Reader(page.read_text())
    assert command("eval", model, data, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    cells = found.tables["rows"]
    index = cells.index("mIoU")
    coarse, rendered = rows["coarse"]["miou"], rows["pointrend"]["miou"]
    assert cells[index + 1 : index + 4] == [f"{coarse:.2f}", f"{rendered:.2f}", f"{rendered - coarse:+.2f}"]
    assert f"{rows['coarse']['iou/disc']:.2f}" in found.tables["classes"]
    assert found.tables["row"][-2] == f"{rendered:.2f}"
    assert found.tables["confusions"][:2] == ["true", "predicted"]
    text = page.read_text()
    assert "8 images" in text
    assert "frames per second" in text


def test_it_needs_no_other_file_and_no_network(page: Path) -> None:
    found = Reader(page.read_text())
    assert "script" not in found.tags
    assert "link" not in found.tags
    outside = [a for a in found.addresses if not a.startswith(("data:image/", "#"))]
    assert outside == []
    assert not re.search(r"url\((?!#)", page.read_text())


def test_names_are_text_and_not_markup(page: Path) -> None:
    text = page.read_text()
    assert "<b>a.png" not in text
    assert "&lt;b&gt;a.png" in text or "a.png" not in text
    assert "&lt;i&gt;" in text
    assert "i" not in Reader(text).tags


def test_files_of_others_are_not_replaced(
    page: Path, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "report.html"
    other.write_text("<html>mine</html>")
    assert command("eval", model, data, "--report", tmp_path) == 2
    assert "was not written by pointrend and is not replaced; choose another folder" in capsys.readouterr().err
    assert other.read_text() == "<html>mine</html>"
    assert command("eval", model, data, "--report", other) == 2
    assert "a report is written into a folder, and this is a file" in capsys.readouterr().err
    # An earlier report is.
    shutil.copy(page, tmp_path)
    assert command("eval", model, data, "--limit", 1, "--report", tmp_path) == 0
    assert "1 images" in other.read_text()


def test_instances(blobs: Path, tmp_path: Path) -> None:
    shutil.copytree(blobs / "val", tmp_path / "val")
    (tmp_path / "classes.json").write_text('["nucleus"]')
    arguments = (tmp_path / "val", "--layout", "instance-ids", "--limit", 2, "--report", tmp_path / "out")
    assert command("eval", "nuclei-lite0", *arguments) == 0
    found = Reader((tmp_path / "out" / "report.html").read_text())
    assert found.tables["rows"][:4] == ["coarse", "28x28", "224x224", "change"]
    assert "All objects together count as one class." in (tmp_path / "out" / "report.html").read_text()


LOOK = """<script>addEventListener("load", () => parent.postMessage(JSON.stringify({
  overflow: document.documentElement.scrollWidth - innerWidth,
  broken: [...document.images].filter(image => !image.naturalWidth).length,
  images: document.images.length,
  charts: document.querySelectorAll("svg").length,
  columns: getComputedStyle(document.querySelector(".panels") ?? document.body).gridTemplateColumns.split(" ").length,
}), "*"))</script>"""


@pytest.mark.parametrize(("width", "columns"), [(1280, 4), (390, 2)])
def test_a_browser_shows_it_on_a_desk_and_a_phone(page: Path, tmp_path: Path, width: int, columns: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if browser is None:
        pytest.skip("needs a browser: there is no chromium")
    (tmp_path / "page.html").write_text(page.read_text() + LOOK)
    (tmp_path / "frame.html").write_text(
        f'<iframe width="{width}" height="900" src="page.html"></iframe>'
        '<script>addEventListener("message", event => { document.title = event.data })</script>'
    )
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    done = subprocess.run(
        [
            browser,
            *flags.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=10000",
            "--dump-dom",
            (tmp_path / "frame.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title is not None, done.stderr[-500:]
    seen = json.loads(title[1].replace("&quot;", '"'))
    assert seen["overflow"] <= 0
    assert seen["broken"] == 0
    assert seen["images"] > 0
    assert seen["charts"] == 4
    assert seen["columns"] == columns
