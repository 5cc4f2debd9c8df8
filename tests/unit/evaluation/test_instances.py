"""Scoring a split: ground truth fed back is perfect, crowds count nowhere, each layout has its own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pointrend.cli import main
from pointrend.data import SampleSet, find_samples
from pointrend.data.coco_annotations import CocoAnnotations
from pointrend.data.segmentations import mask_to_rle
from pointrend.evaluation import Evaluation, evaluate_results
from pointrend.metrics.coco import limits

SIZE = (60, 80)


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def annotation(number: int, image: int, category: int, mask: np.ndarray, **more: Any) -> dict[str, Any]:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
    made = {"id": number, "image_id": image, "category_id": category, "segmentation": mask_to_rle(mask)}
    return made | {"bbox": box, "area": int(mask.sum()), "iscrowd": 0} | more


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name in "ab":
        Image.new("RGB", SIZE[::-1]).save(root / "images" / f"{name}.png")
    content = {
        "images": [{"id": i, "file_name": f"{n}.png", "height": 60, "width": 80} for i, n in enumerate("ab")],
        "categories": [{"id": 5, "name": "cup"}, {"id": 9, "name": "cat"}],
        "annotations": [
            annotation(1, 0, 5, square(5, 5, 12)),
            annotation(2, 0, 9, square(30, 20, 15)),
            annotation(3, 0, 9, square(50, 40, 18), iscrowd=1),
            annotation(4, 1, 9, square(0, 0, 40)),
        ],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def feed_back(samples: SampleSet, *, crowds: bool) -> list[dict[str, Any]]:
    """The ground truth as results."""
    results = []
    for sample in samples.samples:
        known = sample.annotations
        assert isinstance(known, CocoAnnotations)
        masks = known.masks(known.size)
        for one, mask in zip(known.objects, masks, strict=True):
            if crowds or not one.crowd:
                assert one.box is not None
                left, top, right, bottom = one.box
                results.append(
                    {
                        "image_id": sample.image_id,
                        "category_id": samples.category_ids[one.label],
                        "bbox": [left, top, right - left, bottom - top],
                        "score": 0.9,
                        "segmentation": mask_to_rle(mask),
                    }
                )
    return results


def scored(samples: SampleSet, results: object, folder: Path) -> Evaluation:
    path = folder / "results.json"
    path.write_text(json.dumps(results))
    return evaluate_results(path, samples)


@pytest.mark.parametrize("crowds", [False, True])
def test_ground_truth_fed_back_is_perfect(coco: Path, tmp_path: Path, crowds: bool) -> None:
    samples = find_samples(coco, task="instance", split="val")
    row = scored(samples, feed_back(samples, crowds=crowds), tmp_path).rows["results"]
    for kind in ("box", "mask", "boundary"):
        assert row[f"{kind}_ap"] == row[f"{kind}_ap50"] == 100.0
        assert (row[f"{kind}_ap/cup"], row[f"{kind}_ap/cat"]) == (100.0, 100.0)
    assert row["mean_f1"] == 100.0


def test_what_is_found_in_a_crowd_is_not_wrong_and_elsewhere_is(coco: Path, tmp_path: Path) -> None:
    samples = find_samples(coco, task="instance", split="val")
    results = feed_back(samples, crowds=False)

    def with_one_more(mask: np.ndarray, category: int) -> float:
        more = {"image_id": 0, "category_id": category, "score": 0.99, "segmentation": mask_to_rle(mask)}
        return scored(samples, [*results, more], tmp_path).rows["results"]["mask_ap"]

    assert with_one_more(square(52, 42, 6), 9) == 100.0
    assert with_one_more(square(52, 42, 6), 5) < 100.0  # of another class
    assert with_one_more(square(5, 40, 6), 9) < 100.0


def test_boxes_and_areas_are_those_of_the_file(coco: Path) -> None:
    path = coco / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"bbox": [4.5, 4.5, 13.25, 13.0], "area": 2000.0}
    del content["annotations"][1]["bbox"]
    path.write_text(json.dumps(content))
    truth = find_samples(coco, task="instance", split="val").samples[0].annotations.truth(SIZE)
    assert truth.boxes.tolist() == [[4.5, 4.5, 17.75, 17.5], [30, 20, 45, 35], [50, 40, 68, 58]]
    assert truth.areas is not None
    assert truth.areas.tolist() == [2000.0, 225.0, 324.0]
    assert truth.crowd is not None
    assert truth.crowd.tolist() == [False, False, True]


def test_lvis_is_scored_by_its_rules(coco: Path, tmp_path: Path) -> None:
    path = coco / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:2]
    content["images"][1]["neg_category_ids"] = [9]
    for category, frequency in zip(content["categories"], "rf", strict=True):
        category["frequency"] = frequency
    (coco / "annotations" / "lvis_val.json").write_text(json.dumps(content))
    path.unlink()
    samples = find_samples(coco, task="instance", split="val")
    results = feed_back(samples, crowds=False)

    def with_one_more(category: int) -> dict[str, float]:
        mask = mask_to_rle(square(50, 5, 20))
        more = {"image_id": 1, "category_id": category, "score": 0.99, "segmentation": mask}
        return scored(samples, [*results, more], tmp_path).rows["results"]

    assert with_one_more(5)["mask_ap"] == 100.0  # nobody looked for cups in the second image
    row = with_one_more(9)  # cats were looked for, and not found
    assert row["mask_ap_rare"] == 100.0
    assert row["mask_ap_frequent"] < 100.0


def test_cityscapes_has_a_second_score(tmp_path: Path) -> None:
    ids = np.full(SIZE, 7, np.int32)
    ids[5:25, 5:25], ids[30:50, 40:60] = 26000, 24001
    for folder, end, values in (
        ("leftImg8bit", "leftImg8bit", np.zeros((*SIZE, 3), np.uint8)),
        ("gtFine", "gtFine_instanceIds", ids.astype(np.uint16)),
    ):
        path = tmp_path / folder / "val" / "ulm" / f"ulm_1_{end}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(values).save(path)
    samples = find_samples(tmp_path, task="instance", split="val")
    results = [
        {"image_id": "ulm_1", "category_id": 26, "score": 0.9, "segmentation": mask_to_rle(ids == 26000)},
        {"image_id": "ulm_1", "category_id": 24, "score": 0.9, "segmentation": mask_to_rle(square(0, 40, 20))},
    ]
    result = scored(samples, results, tmp_path)
    row = result.rows["results"]
    assert row["cityscapes_ap"] == 50.0
    assert row["mask_ap"] == 50.0
    assert result.to_dict()["rows"]["results"]["cityscapes_ap"] == 50.0  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": 1}, "a JSON list of detections, got dict"),
        ([3], "detection 0 has no 'category_id'"),
        ([{"image_id": 0, "category_id": 5, "segmentation": []}], "detection 0 has no 'score'"),
        ([{"image_id": 77, "category_id": 5, "score": 1, "segmentation": []}], "of image 77"),
        ([{"image_id": 0, "category_id": 6, "score": 1, "segmentation": []}], "of category 6"),
        ([{"image_id": 0, "category_id": 5, "score": 1, "segmentation": [[1, 2]]}], "detection 0: a polygon"),
        ([{"image_id": 0, "category_id": 5, "score": "x", "segmentation": []}], "must be a finite number, got 'x'"),
        ([{"image_id": 0, "category_id": 5, "score": 1, "segmentation": [], "bbox": [1]}], "got a list of 1"),
    ],
)
def test_results_that_are_none(coco: Path, tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        scored(find_samples(coco, task="instance", split="val"), content, tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "results.json").write_text("[")
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        evaluate_results(tmp_path / "results.json", find_samples(coco, task="instance", split="val"))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert isinstance(ended.value.code, int)
    return (ended.value.code, *capsys.readouterr())


def test_the_command(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    results.write_text(json.dumps(feed_back(find_samples(coco, task="instance", split="val"), crowds=True)))
    code, out, _ = run(capsys, "eval", results, coco, "--split", "val")
    assert code == 0
    assert "100.00" in out
    code, out, _ = run(capsys, "eval", results, coco, "--split", "val", "--json")
    assert json.loads(out)["rows"]["results"]["mask_ap"] == 100.0
    code, _, err = run(capsys, "eval", tmp_path / "no.json", coco, "--split", "val")
    assert (code, len(err.strip().splitlines())) == (1, 1)


def test_a_limit_and_the_width_of_the_bands_reach_the_metrics(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = find_samples(coco, task="instance", split="val")
    *results, last = feed_back(samples, crowds=False)
    moved = {**last, "segmentation": mask_to_rle(square(1, 1, 40))}  # of the second image, one pixel aside
    del moved["bbox"]
    path = tmp_path / "results.json"
    path.write_text(json.dumps([*results, moved]))

    def scores(*options: object) -> dict[str, Any]:
        code, out, err = run(capsys, "eval", path, coco, "--split", "val", "--json", *options)
        assert code == 0, err
        content: dict[str, Any] = json.loads(out)
        return content

    first, whole = scores("--limit", 1), scores()
    assert (first["images"], whole["images"]) == (1, 2)
    assert first["rows"]["results"]["boundary_ap"] == 100.0
    assert whole["rows"]["results"]["boundary_ap"] < 90
    wide = scores("--boundary-share", 0.2)["rows"]["results"]
    assert wide["boundary_ap"] > whole["rows"]["results"]["boundary_ap"] + 5
    assert wide["mask_ap"] == whole["rows"]["results"]["mask_ap"]


def test_real_photographs_fed_back_are_perfect(
    test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = find_samples(test_data / "coco", task="instance", split="val")
    results = tmp_path / "results.json"
    results.write_text(json.dumps(feed_back(samples, crowds=True)))
    code, out, _ = run(capsys, "eval", results, test_data / "coco", "--split", "val", "--json")
    assert code == 0
    row = json.loads(out)["rows"]["results"]
    assert row["box_ap"] == row["mask_ap"] == row["boundary_ap"] == 100.0


def test_how_many_detections_count() -> None:
    assert limits(100) == (1, 10, 100)
    assert limits(400) == (1, 100, 400)
    assert limits(5) == (1, 10, 11)


def test_more_than_a_hundred_detections_of_an_image_can_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size, squares = (200, 300), [(20 * (i % 15), 20 * (i // 15)) for i in range(150)]
    masks = []
    for x, y in squares:
        mask = np.zeros(size, bool)
        mask[y + 2 : y + 12, x + 2 : x + 12] = True
        masks.append(mask)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    Image.new("RGB", size[::-1]).save(tmp_path / "images" / "a.png")
    content = {
        "images": [{"id": 0, "file_name": "a.png", "height": size[0], "width": size[1]}],
        "categories": [{"id": 5, "name": "cell"}],
        "annotations": [annotation(i, 0, 5, mask) for i, mask in enumerate(masks)],
    }
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    results = [{"image_id": 0, "category_id": 5, "score": 0.9, "segmentation": mask_to_rle(mask)} for mask in masks]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    code, out, err = run(capsys, "eval", path, tmp_path, "--split", "val", "--json")
    assert code == 0
    assert json.loads(out)["rows"]["results"]["mask_ap"] == pytest.approx(66.34, abs=0.01)  # as COCO scores it
    assert "1 images have more than 100 detections of a class, of which the best 100 count; --max-detections N" in err
    code, out, err = run(capsys, "eval", path, tmp_path, "--split", "val", "--json", "--max-detections", 150)
    assert json.loads(out)["rows"]["results"]["mask_ap"] == 100.0
    assert err == ""
