"""What a run says of the machine and the code that it was started with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pointrend
from pointrend.training.environment import (
    checkout,
    command,
    environment,
    logger_id,
    record_start,
    remember_logger,
)


def start(folder: Path, iteration: int) -> None:
    record_start(folder, iteration=iteration, device=torch.device("cpu"), processes=2, precision="bf16-mixed")


def test_every_start_is_kept_with_its_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/pointrend", "train", "people-lite0", "--out", "my runs/a"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("SECRET_TOKEN", "do not write me")
    start(tmp_path, 0)
    remember_logger(tmp_path, "wandb", "abc")
    start(tmp_path, 40)
    text = (tmp_path / "run.json").read_text()
    content = json.loads(text)
    assert [found["iteration"] for found in content["starts"]] == [0, 40]
    first = content["starts"][0]
    assert first["command"] == "pointrend train people-lite0 --out 'my runs/a'"
    assert torch.__version__.startswith(first["versions"]["torch"])
    assert first["versions"]["pointrend"] == pointrend.__version__ == first["packages"]["pointrend"]
    assert (first["device"], first["processes"], first["precision"]) == ("cpu", 2, "bf16-mixed")
    assert first["threads"] == torch.get_num_threads()
    assert first["variables"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert "do not write me" not in text
    assert first["python"] == ".".join(map(str, sys.version_info[:3]))
    assert len(first["cpu"]) > 2
    assert logger_id(tmp_path, "wandb") == "abc"
    start(tmp_path, 0)  # another training in the same place
    assert len(json.loads((tmp_path / "run.json").read_text())["starts"]) == 1
    assert logger_id(tmp_path, "wandb") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"starts": 3}', '{"loggers": []}'])
def test_a_damaged_file_stops_no_training(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    assert logger_id(tmp_path, "wandb") is None
    start(tmp_path, 7)
    assert [found["iteration"] for found in json.loads((tmp_path / "run.json").read_text())["starts"]] == [7]


def test_python_m_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/lib/pointrend/__main__.py", "train", "x"])
    assert command() == "python -m pointrend train x"


def test_the_commit_is_that_of_the_packages_own_checkout(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("a = 1\n")
    assert checkout(package) is None  # no repository
    git("init", "--quiet")
    assert checkout(package) is None  # a repository of something else, in which an environment lies
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert checkout(package) == {"commit": commit, "changed": False}
    (tmp_path / "README").write_text("not of the package")
    assert checkout(package) == {"commit": commit, "changed": False}
    (package / "__init__.py").write_text("a = 2\n")
    assert checkout(package) == {"commit": commit, "changed": True}


def test_this_machine_is_described() -> None:
    found = environment()
    assert found["started"].endswith("+00:00")
    assert found["folder"] == str(Path.cwd())
