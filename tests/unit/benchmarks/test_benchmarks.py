"""The benchmark measures what it says: its references are the references, and its numbers are of what was run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks import suite, whole
from benchmarks.__main__ import app
from benchmarks.dense import dense_labels, dense_masks
from benchmarks.inputs import boxes_of_photographs, logits_from, photo, piecewise_smooth_logits
from benchmarks.rows import growth_rows, mask_row, mean_pasted_iou, scene, sparse
from pointrend.core import MASK_SUBDIVISION, Subdivision, sample_points, subdivide
from pointrend.models import CoarseMaskHead, PointArchitecture, PointHead, PointRendMaskHead
from pointrend.timing import Spread, interleaved, ratios
from pointrend.zoo.manifest import PUBLISHED

ROOT = Path(__file__).parents[3]


@torch.inference_mode()
def test_the_dense_way_is_the_reference_and_ours_agrees() -> None:
    made, subdivision = scene(piecewise_smooth_logits, 5, 24, 40), Subdivision(num_points=200, steps=2)

    def predict(points: torch.Tensor) -> torch.Tensor:
        return made.head(sample_points(made.fine, points), sample_points(made.coarse, points))

    expected = subdivide(made.coarse, predict, subdivision).argmax(dim=1)
    dense = dense_labels(made.coarse, made.fine, made.head, subdivision)
    assert dense.shape == (1, 96, 160)
    assert len(dense.unique()) > 2
    assert (dense != expected).float().mean() < 0.001  # of ties either may be chosen
    assert (sparse(made, subdivision) != expected).float().mean() < 0.001


@torch.inference_mode()
def test_dense_masks_are_the_reference() -> None:
    torch.manual_seed(0)
    head = PointRendMaskHead(
        coarse_head=CoarseMaskHead(in_channels=6, num_classes=4, channels=4, hidden=8),
        point_head=PointHead(in_channels=6, num_classes=4, architecture=PointArchitecture(hidden=8)),
    ).eval()
    torch.nn.init.normal_(head.coarse_head.classifier.weight)
    size, fine = (80, 100), torch.randn(1, 6, 20, 25)
    boxes = torch.tensor([[3.0, 4.0, 60.0, 70.0], [50.0, 10.0, 99.0, 40.0]])
    classes = torch.tensor([3, 1])
    subdivision = replace(MASK_SUBDIVISION, num_points=300, steps=2)
    expected = head.render([fine], [boxes], classes, size, subdivision)[-1][:, 0]
    made = dense_masks(fine, head.coarse(fine, [boxes], size), boxes, classes, head, size, subdivision)
    assert ((made - expected).abs() > 1e-4).float().mean() < 0.002
    assert mean_pasted_iou(made, expected, boxes, size) > 0.99
    assert mean_pasted_iou(made, -expected, boxes, size) < 0.1


def test_times_are_interleaved() -> None:
    calls: list[str] = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3  # the first round does not count
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}
    assert ratios({"a": [4.0, 9.0], "b": [2.0, 3.0]}, "a", "b") == Spread(2.5, 2.25, 2.75)


PEAK = """
import torch
from benchmarks.measure import peak_bytes
held = torch.ones(40_000_000)  # 160 MB
print(peak_bytes(lambda: float(torch.ones(25_000_000).sum())))  # 100 MB
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux reports the peak")
def test_the_peak_is_above_what_was_held() -> None:
    """In a process of its own: here, freed memory of other tests may be used again."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, cwd=ROOT)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not let a process reset its peak")
    assert 80e6 < int(done.stdout) < 150e6


@torch.inference_mode()
def test_growth_and_masks_are_measured() -> None:
    ticks: list[int] = []
    rows = growth_rows(piecewise_smooth_logits, most_steps=1, repeats=1, tick=lambda: ticks.append(1))
    (row,) = rows
    assert row.name == "growth: 512x1024 (1 steps)"
    assert set(row.seconds) == {"pointrend", "dense"}
    assert len(ticks) == 4
    boxes = boxes_of_photographs(None)[:3]
    row = mask_row(boxes, adaptive=True, name="masks", target="", repeats=1, tick=lambda: ticks.append(1))
    assert row.notes["mean IoU after pasting"] > 0.99
    assert row.ratio is not None


def test_inputs_are_the_same_each_time_and_have_few_boundaries(tmp_path: Path) -> None:
    logits = piecewise_smooth_logits(19, 64, 96)
    assert torch.equal(logits, piecewise_smooth_logits(19, 64, 96))
    labels = logits.argmax(1)
    assert 3 <= len(labels.unique()) <= 12
    assert (labels[:, 1:] != labels[:, :-1]).float().mean() < 0.2
    assert photo(60, 90).shape == (60, 90, 3)
    boxes = boxes_of_photographs(None)
    assert len(boxes) == 100
    assert bool((boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all() and (boxes[:, 2] <= 1333).all())
    file = tmp_path / "mine.py"
    file.write_text("import torch\ndef realistic_logits(c, h, w):\n    return torch.ones(1, c, h, w)\n")
    assert logits_from(file)(3, 4, 5).shape == (1, 3, 4, 5)
    file.write_text("")
    with pytest.raises(ValueError, match="has no function realistic_logits"):
        logits_from(file)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "RENDERINGS", ((3, (16, 24), 2, 8.0),))
    monkeypatch.setattr(whole, "ENGINES", (("torch", "float32"),))
    monkeypatch.setattr(suite, "STREET", (64, 128))
    published = PUBLISHED[whole.MODEL]
    test = published.spec.test.model_copy(update={"shortest": 64, "longest": 128})
    spec = published.spec.model_copy(update={"test": test})
    monkeypatch.setitem(PUBLISHED, whole.MODEL, published.model_copy(update={"spec": spec}))
    out = tmp_path / "out"
    command = CliRunner()
    done = command.invoke(
        app,
        ["--only", "render,whole,many", "--repeats", "1", "--photos", "2", "--out", str(out)],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert "labels that" in done.output
    content = json.loads((out / "bench.json").read_text())
    assert content["threads"] == torch.get_num_threads()
    render, street, many = content["rows"]
    assert render["notes"]["labels that differ"] == 0
    assert set(street["seconds"]) == {"dense eager", "its network alone", "torch"}
    assert many["notes"]["times network and rendering"] > 0
    for wrong, said in (
        (["--only", "speed"], "--only must name some of render, growth, masks, whole, many, start, got 'speed'"),
        (["--out", str(out / "bench.json")], "is a file"),
        (["--boxes", str(tmp_path / "none.json")], "there is no"),
        (["--logits", str(tmp_path / "none.py")], "must be a Python file with a function realistic_logits"),
    ):
        done = command.invoke(app, wrong)
        assert done.exit_code == 2
        assert said in done.output


def test_it_runs_from_a_checkout() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.startswith("Usage: python -m benchmarks")
    assert "--logits" in done.stdout


def test_boxes_have_the_sizes_of_an_annotation_file(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 400, "width": 500}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": [], "bbox": box}
            for i, box in enumerate(([10, 10, 30, 40], None, [0, 0, 500, 400]))
        ],
    }
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(content))
    boxes = boxes_of_photographs(path)
    # Twice as large, as the network sees the image; none is stated for the second object.
    assert (boxes[:, 2:] - boxes[:, :2]).round().tolist() == [[60, 80], [1000, 800]]
