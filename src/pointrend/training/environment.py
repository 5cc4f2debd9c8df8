"""`run.json`: with what a training was started, each time that it was."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import pointrend.errors
from pointrend.files import write_atomically

RUN_FILE = "run.json"
MAIN_PACKAGES = ("pointrend", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow", "torchmetrics")
_VARIABLES = re.compile(r"(OMP|MKL|CUDA|NCCL|TORCH|PYTORCH)_\w+")
"""Names of variables of the environment that change how PyTorch computes."""


def environment() -> dict[str, Any]:
    """Return the command, the versions of all packages, the code's commit, the machine, and PyTorch's threads."""
    package = Path(pointrend.errors.__file__).parent
    versions = {str(found.metadata["Name"]).lower(): found.version for found in metadata.distributions()}
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "folder": str(Path.cwd()),
        "python": platform.python_version(),
        "versions": {name: versions[name] for name in MAIN_PACKAGES if name in versions},
        **({} if (commit := checkout(package)) is None else commit),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)},
        "packages": dict(sorted(versions.items())),
    }


def command() -> str:
    """Return the command that started this program, as a shell takes it."""
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return " ".join([name, *(shlex.quote(argument) for argument in sys.argv[1:])])


def checkout(package: Path) -> dict[str, Any] | None:
    """Return the commit of the git checkout that a package's folder is a part of, and whether its files differ from it.

    None: it is installed without one, or there is no git.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An environment may lie within a repository of something else, which does not track it.
    if not git("ls-files", "--error-unmatch", "__init__.py") or (commit := git("rev-parse", "HEAD")) is None:
        return None
    return {"commit": commit, "changed": bool(git("status", "--porcelain", "--untracked-files=no", "."))}


def cpu_name() -> str:
    """Return the name of the processor, as far as the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def record_start(folder: Path, *, iteration: int, device: torch.device, processes: int, precision: str) -> None:
    """Add a start, at an iteration, to a run's file; a new run has a new file."""
    content = _content(folder) if iteration else {}
    start = {
        "iteration": iteration,
        "device": str(device),
        "device_name": device_name(device),
        "processes": processes,
        "precision": precision,
        **environment(),
    }
    _write(folder, {**content, "starts": [*content.get("starts", []), start]})


def logger_id(folder: Path, logger: str) -> str | None:
    """Return the id that a logger gave the run when it was started first."""
    found = _content(folder).get("loggers", {})
    return str(found[logger]) if isinstance(found, dict) and logger in found else None


def remember_logger(folder: Path, logger: str, identity: str) -> None:
    """Keep the id that a logger gave the run."""
    content = _content(folder)
    _write(folder, {**content, "loggers": {**content.get("loggers", {}), logger: str(identity)}})


def _content(folder: Path) -> dict[str, Any]:
    """Return what a run's file has; nothing of a missing or a damaged one, which a training need not stop for."""
    try:
        content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    starts_listed = isinstance(content, dict) and isinstance(content.get("starts", []), list)
    return content if starts_listed and isinstance(content.get("loggers", {}), dict) else {}


def _write(folder: Path, content: dict[str, Any]) -> None:
    write_atomically(folder / RUN_FILE, f"{json.dumps(content, indent=2)}\n".encode())
