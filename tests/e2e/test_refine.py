"""Refinement from files to files, by the call and by the command, with a network that is not trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pointrend
from pointrend.cli import main
from pointrend.data.settings import InputSpec
from pointrend.errors import PointRendError, PointRendWarning
from pointrend.models import MaskRefiner
from pointrend.results import RefinedMask
from pointrend.spec import RefinerSpec, RefinerTest
from pointrend.zoo import Model, load_model, save_model

SIZE = (120, 150)
TEST = RefinerTest(window=64, margin=16, reach=8, extent=10, passes=1, keep=0)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = MaskRefiner()
    with torch.no_grad():  # a network that moves outlines, so that what changes can be seen
        network.coarse_head[-1].bias.fill_(-0.7)
    spec = RefinerSpec(name="untrained", test=TEST, input=InputSpec(mean=(127.5,) * 3, std=(127.5,) * 3))
    return Model(network, spec).eval()


@pytest.fixture(scope="module")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    save_model(model, path)
    return path


def disc(radius: float = 35.0, size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.hypot(y - size[0] / 2, x - size[1] / 2) < radius


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three photographs and their masks."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for index, name in enumerate("abc"):
        pixels = np.where(disc()[..., None], (200, 150, 90 + 9 * index), (40, 60, 80)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{name}.png")
        Image.fromarray((disc(38) * 255).astype(np.uint8)).save(masks / f"{name}.png")
    return images, masks


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_the_mask_changes_near_its_outline_alone(model: Model, folders: tuple[Path, Path]) -> None:
    result = pointrend.refine(folders[0] / "a.png", folders[1] / "a.png", model=model)
    assert isinstance(result, RefinedMask)
    assert result.labels.dtype == bool
    assert result.labels.shape == SIZE
    assert result.changed.any()
    assert np.array_equal(result.labels ^ result.changed, disc(38))
    reach = np.abs(np.hypot(*(np.mgrid[:120, :150] - np.array([60, 75])[:, None, None])) - 38)
    assert reach[result.changed].max() < 10 * np.sqrt(2) + 1
    assert result.soft is not None
    assert np.array_equal(result.soft > 0.5, result.labels)


def test_a_file_and_engines_give_the_same(file: Path, model: Model, folders: tuple[Path, Path]) -> None:
    image, mask = folders[0] / "b.png", folders[1] / "b.png"
    mine = pointrend.refine(image, mask, model=model)
    loaded = load_model(file)
    assert loaded.spec == model.spec
    np.testing.assert_array_equal(pointrend.refine(image, mask, model=loaded).labels, mine.labels)
    for engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
        other = pointrend.refine(image, mask, model=str(file), engine=engine)
        assert other.soft is not None
        assert mine.soft is not None
        np.testing.assert_allclose(other.soft, mine.soft, atol=2e-3)


def test_lists_give_lists(model: Model, folders: tuple[Path, Path]) -> None:
    images, masks = ([folder / f"{name}.png" for name in "ab"] for folder in folders)
    results = pointrend.refine(images, masks, model=model)
    assert [result.path for result in results] == images
    with pytest.raises(PointRendError, match="a mask for each image, got 2 images and 1 masks"):
        pointrend.refine(images, masks[:1], model=model)


def test_labels_and_ids_keep_one_label_a_pixel(model: Model) -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    labels = np.where(disc(38), 7, 2).astype(np.uint8)
    labels[:, 75:] = np.where(labels[:, 75:] == 7, 9, 2)
    result = pointrend.refine(image, labels, model=model, kind="labels")
    assert set(np.unique(result.labels)) <= {2, 7, 9}
    assert result.labels.dtype == np.uint8
    assert result.soft is None
    assert result.changed.mean() < 0.3
    ids = pointrend.refine(image, np.where(labels == 2, 0, labels).astype(np.int32), model=model, kind="ids")
    assert set(np.unique(ids.labels)) <= {0, 7, 9}
    assert (ids.labels == 0).sum() > (labels == 2).sum()  # this network makes objects smaller


def test_soft_masks_and_logits_agree(model: Model) -> None:
    image = np.full((*SIZE, 3), 90, np.uint8)
    logits = (np.float32(38) - np.hypot(*(np.mgrid[:120, :150] - np.array([60, 75])[:, None, None]))) / 4
    a = pointrend.refine(image, logits.astype(np.float32), model=model)
    b = pointrend.refine(image, 1 / (1 + np.exp(-logits.astype(np.float32))), model=model)
    np.testing.assert_allclose(a.soft, b.soft, atol=1e-4)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, 255])
def test_empty_and_full_masks_come_back_with_a_note(model: Model, value: int) -> None:
    with pytest.warns(PointRendWarning, match="there is no outline to refine"):
        result = pointrend.refine(
            np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, value, np.uint8), model=model, kind="binary"
        )
    assert result.labels.all() == (value == 255)
    assert not result.changed.any()


def test_a_pixel_and_an_object_at_the_border_are_refined(model: Model) -> None:
    one = np.zeros(SIZE, bool)
    one[0, 0] = True
    border = np.zeros(SIZE, bool)
    border[40:, 60:] = True
    for mask in (one, border):
        result = pointrend.refine(np.zeros((*SIZE, 3), np.uint8), mask, model=model)
        assert result.labels.shape == SIZE


def test_other_models_and_lone_images_are_refused(model: Model, folders: tuple[Path, Path]) -> None:
    with pytest.raises(PointRendError, match="people-lite0 labels pixels; masks are refined by refiner-lite0"):
        pointrend.refine(folders[0] / "a.png", folders[1] / "a.png", model="people-lite0")
    with pytest.raises(PointRendError, match=r"untrained needs a mask to refine: pointrend\.refine"):
        model.predict(folders[0] / "a.png")
    with pytest.raises(PointRendError, match=r"extent.* .*less than or equal to 2048"):
        pointrend.refine(folders[0] / "a.png", folders[1] / "a.png", model=model, extent=10**6)


def test_the_command_refines_folders(file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    (folders[1] / "c.png").unlink()
    Image.new("L", (9, 9)).save(folders[1] / "z.png")
    out = tmp_path / "out"
    code, printed, said = run(
        "refine",
        folders[0],
        folders[1],
        "--model",
        file,
        "--out",
        out,
        "--save",
        "mask,soft,cutout,overlay,changed,json",
    )
    assert code == 1
    assert "2 of 3 done; the results are in" in printed
    assert f"{folders[0] / 'c.png'}: no mask of this name in" in said
    assert "1 of 3 masks" in said
    with Image.open(out / "a.png") as mask, Image.open(out / "a_cutout.png") as cutout:
        assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert (cutout.mode, cutout.size) == ("RGBA", (150, 120))
    assert json.loads((out / "a.json").read_text())["changed_pixels"] > 0
    assert sorted(path.name for path in out.iterdir() if path.name.startswith("b")) == [
        "b.json", "b.png", "b_changed.png", "b_cutout.png", "b_overlay.png", "b_soft.png",
    ]  # fmt: skip


def test_the_command_removes_specks(file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    for name, specks, inside in (("all", "0", True), ("none", str(10**6), False)):
        out = tmp_path / name
        code, _, _ = run(
            "refine", folders[0] / "a.png", folders[1] / "a.png", "--model", file, "--out", out, "--specks", specks
        )
        assert code == 0
        with Image.open(out / "a.png") as mask:
            assert np.asarray(mask).any() == inside


def test_the_command_takes_coco_results(file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    from pycocotools import mask as rle

    coded = rle.encode(np.asfortranarray(disc(30).astype(np.uint8)))
    objects = [
        {"image_id": "a", "score": 0.5, "segmentation": {"size": coded["size"], "counts": coded["counts"].decode()}},
        {"image_id": "a", "score": 0.9, "segmentation": [[60, 40, 100, 40, 100, 90, 60, 90]]},
    ]
    (tmp_path / "results.json").write_text(json.dumps(objects))
    code, _, said = run("refine", folders[0], tmp_path / "results.json", "--model", file, "--out", tmp_path / "o")
    assert code == 1
    assert "b.png: results.json has no object of this image" in said
    with Image.open(tmp_path / "o" / "a.png") as image:
        assert set(np.unique(np.asarray(image))) == {0, 1, 2}
        assert np.asarray(image)[65, 80] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--save", "mask,foo"], "--save must be some of mask, soft, cutout, overlay, changed, json, got 'mask,foo'"),
        (["--kind", "soft"], "--kind must be one of binary, probabilities"),
        (["--fit", "crop"], "--fit must be stretch or pad, got 'crop'"),
        (["--model", "nothing"], "nothing"),
    ],
)
def test_wrong_options_are_one_line(
    file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any, arguments: list[str], said: str
) -> None:
    code, _, errors = run("refine", *folders, "--model", file, "--out", tmp_path / "o", *arguments)
    assert code == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_photograph_is_no_mask_and_names_must_fit(
    file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any
) -> None:
    code, _, said = run("refine", folders[0] / "a.png", folders[0] / "b.png", "--model", file, "--out", tmp_path / "o")
    assert code == 1
    assert "a mask has one value a pixel, (h, w), got (120, 150, 3), which is a photograph's" in said
    (tmp_path / "others").mkdir()
    Image.new("L", (150, 120)).save(tmp_path / "others" / "x.png")
    code, _, said = run("refine", folders[0], tmp_path / "others", "--model", file, "--out", tmp_path / "o")
    assert code == 2
    assert "no mask has the name of an image; images are a.png, masks x.png" in said
    code, _, said = run("refine", folders[0], folders[1] / "a.png", "--model", file, "--out", tmp_path / "o")
    assert code == 2
    assert "are 3 images; give a folder of masks" in said


def test_refiners_are_scored_before_and_after(file: Path, folders: tuple[Path, Path], tmp_path: Path, run: Any) -> None:
    code, printed, _ = run("eval", file, folders[0].parent, "--corrupt", "true,x8,eroded", "--json", "--limit", 2)
    assert code == 0
    rows = {row["kind"]: row for row in json.loads(printed)}
    assert list(rows) == ["true", "x8", "eroded"]
    assert rows["true"]["before"] == {
        "iou": 100,
        "boundary_iou_2": 100,
        "boundary_iou_05": 100,
        "boundary_iou_3px": 100,
    }
    assert rows["true"]["after"]["iou"] < 100
    assert rows["eroded"]["before"]["iou"] == pytest.approx(100 * (33.5 / 38) ** 2, abs=1.5)
    code, printed, _ = run("eval", file, folders[0].parent, "--masks", folders[1])
    assert code == 0
    assert "masks" in printed
    for arguments, said in (
        ([], "needs masks to be scored on: give --corrupt KIND or --masks DIR"),
        (["--corrupt", "x9"], "--corrupt must be some of true, x8, x16"),
        (["--corrupt", "x8", "--flip"], "--flip: not for refiners"),
        (["--corrupt", "x8", "--masks", folders[1]], "give one of them"),
    ):
        code, _, errors = run("eval", file, folders[0].parent, *arguments)
        assert (code, said in errors) == (2, True), errors
