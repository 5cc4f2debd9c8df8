"""Every loss is a line of a recipe, for several classes, for two and for classes that do not exclude each other."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from people_files import write_labels
from small_recipe import SMALL
from torch import Tensor, nn

import pointrend
from pointrend.cli import main
from pointrend.errors import PointRendError
from pointrend.spec import SemanticTest
from pointrend.training import train
from pointrend.zoo import Model

SETTINGS = (*SMALL, "train.precision=bf16-mixed", "train.iterations=2", "train.log_every=1", "train.eval_every=100")
LINES = {
    "class weights": ("loss.class_weights={weights}",),
    "label smoothing": ("loss.label_smoothing=0.1",),
    "focal beside": ("loss.focal=1",),
    "focal instead": ("loss.focal=1", "loss.cross_entropy=0", "loss.focal_gamma=1.5"),
    "Dice": ("loss.dice=1",),
    "Lovász": ("loss.lovasz=0.5",),
    "OHEM": ("loss.ohem.threshold=0.7", "loss.ohem.min_kept=200"),
}
CLASSES = {"three": ("background", "rust", "paint"), "two": ("background", "rust"), "multi-label": ("wood", "rust")}


class Own(nn.Module):
    """Logits of 2 classes at stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def multi_label() -> Model:
    torch.manual_seed(0)
    test = SemanticTest(shortest=32, longest=32, pad_multiple=4)
    return pointrend.attach(Own(), classes=list(CLASSES["multi-label"]), multi_label=True, test=test)


def labels_of(kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """The disc is of class 1, and, where there are three classes, its lower half of class 2."""
    last = len(CLASSES[kind]) - 1
    return lambda mask: np.where(mask.cumsum(axis=0) > 5, last * mask, mask).astype(np.uint8)


def first_row(tmp_path: Path, data: Path, kind: str, name: str, lines: tuple[str, ...]) -> dict[str, float]:
    """The numbers of the first iteration of two."""
    weights = [0.25, 1, 4][: len(CLASSES[kind])]
    settings = [*SETTINGS, *(line.format(weights=weights) for line in lines)]
    model = multi_label() if kind == "multi-label" else None
    outcome = train("people-lite0", data, tmp_path / name, settings=settings, model=model)
    assert outcome.iteration == 2
    with (tmp_path / name / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    return {key: float(value) for key, value in rows[0].items() if value}


@pytest.mark.parametrize("kind", CLASSES)
def test_each_line_trains_and_changes_the_loss(tmp_path: Path, kind: str) -> None:
    data = write_labels(tmp_path / "data", labels_of(kind), classes=CLASSES[kind])
    plain = first_row(tmp_path, data, kind, "plain", ())
    assert plain["loss_region"] == 0
    for name, lines in LINES.items():
        if kind == "multi-label" and name == "OHEM":
            continue  # refused, see below
        row = first_row(tmp_path, data, kind, name, lines)
        changed = {key for key in ("loss_coarse", "loss_points", "loss_region") if row[key] != plain[key]}
        expected = {"Dice": {"loss_region"}, "Lovász": {"loss_region"}, "OHEM": {"loss_coarse"}}
        assert changed == expected.get(name, {"loss_coarse", "loss_points"}), name
        total = row["loss_coarse"] + row["loss_points"] + row["loss_region"]
        assert row["loss"] == pytest.approx(total, rel=1e-4), name


def test_what_does_not_fit_the_data_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_labels(tmp_path / "data", lambda mask: mask.astype(np.uint8))
    sets = [part for line in (*SETTINGS, "loss.class_weights=[1, 2, 3]") for part in ("--set", line)]
    with pytest.raises(SystemExit) as ended:
        main(["train", "people-lite0", "--data", str(data), "--out", str(tmp_path / "out"), *sets])
    assert ended.value.code == 1
    printed = capsys.readouterr().err.strip().splitlines()
    assert printed[-1] == "pointrend: error: loss.class_weights: expected a weight for each of the 2 classes, got 3"
    assert not (tmp_path / "out").exists()

    settings = [*SETTINGS, "loss.ohem.threshold=0.7"]
    with pytest.raises(PointRendError, match=r"loss\.ohem: "):
        train("people-lite0", data, tmp_path / "out", settings=settings, model=multi_label())
    assert not (tmp_path / "out").exists()
