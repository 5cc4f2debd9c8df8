"""docs/own-data.md: the commands of the tutorial, on twenty drawn photographs with an unknown and a known class."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from miniatures import write_split

from pointrend.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "own-data.md"


def commands() -> list[list[str]]:
    """The arguments of every command of the page."""
    text = re.sub(r"\\\n\s*", "", PAGE.read_text(encoding="utf-8"))
    shells = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line)[1:] for block in shells for line in block.splitlines()]


def run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


@pytest.mark.slow
def test_twenty_photographs_become_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_split(tmp_path / "mine" / "train", 16, first_seed=0, size=160)
    write_split(tmp_path / "mine" / "val", 4, first_seed=1000, size=160)
    (tmp_path / "mine" / "classes.json").write_text(json.dumps(["background", "disc", "polygon"]))
    train, evaluate, predict = commands()
    # Smaller than on the page, for time; all else is as there.
    smaller = ["augment.crop=[96,96]", "augment.base_scale=1", "train.iterations=60", "train.eval_every=60"]
    smaller += ["optim.warmup=5"]
    run([*train, *(part for setting in (*smaller, "train.precision=32-true") for part in ("--set", setting))])
    said = " ".join(capsys.readouterr().err.split())
    assert "weights of people-lite0" in said
    assert re.search(r"coarse_head │ *\d+ │ *2 │ *0", said)  # by class: the background's rows
    run([*evaluate, "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows["pointrend"]["miou"] > 80
    assert rows["pointrend"]["boundary_iou"] > rows["coarse"]["boundary_iou"]
    (tmp_path / "holiday.jpg").write_bytes((tmp_path / "mine" / "val" / "images" / "001.png").read_bytes())
    run(predict)
    assert (tmp_path / "out" / "holiday.png").exists()
