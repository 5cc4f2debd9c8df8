"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

PyTorch is left out: its oldest versions are gigabytes. Its range is tested at the newest version only.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LEFT_OUT = ("torch", "torchvision", "pointrend")
EXTRAS = ("train",)


def floors(project: dict[str, object]) -> list[str]:
    """Return `name==version` for every requirement with a lower bound, of the package and of its extra `train`."""
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    requirements: list[str] = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]  # type: ignore[misc]
    found = []
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9_-]+)>=([0-9.]+)", requirement)
        if match and match[1] not in LEFT_OUT:
            found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    print("\n".join(floors(tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"])))
