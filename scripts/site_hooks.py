"""Hooks of mkdocs: pages that lie outside of docs/ become part of the site, and links to them are set right."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f"src/pointrend/weights/{path.name}": f"cards/{path.name}" for path in ROOT.glob("src/pointrend/weights/*.md")},
    **{f"examples/{path.name}": f"examples/{path.name}" for path in ROOT.glob("examples/*.*")},
}
"""Files of the repository, and their places in the site."""
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for source, target in OUTSIDE.items():
        if target.endswith(".md"):
            text = linked((ROOT / source).read_text(encoding="utf-8"), source, target)
            files.append(File.generated(config, target, content=text))
        else:
            files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Set links right of the pages in docs/."""
    uri = page.file.src_uri
    return markdown if uri in OUTSIDE.values() else linked(markdown, f"docs/{uri}", uri)


def linked(text: str, source: str, target: str) -> str:
    """Return a page whose links between files of the repository are those between pages of the site.

    Links to files that are not in the site, such as tests, lead to the page itself.

    Args:
        text: Markdown.
        source, target: the page's place in the repository, and in the site.
    """

    def replaced(match: re.Match[str]) -> str:
        before, link, anchor, after = match.group(1), match.group(2), match.group(3) or "", match.group(4)
        if re.match(r"[a-z]+:", link):
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        place = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if path == "docs/adr":
            place = "adr/0001-recipes-and-weights-in-the-package.md"
        if place is None:
            return f"{before}{posixpath.basename(target)}{after}"
        return f"{before}{posixpath.relpath(place, posixpath.dirname(target) or '.')}{anchor}{after}"

    return _LINK.sub(replaced, text)
