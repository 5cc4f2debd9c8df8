"""Submissions are read by the benchmarks' own programs, which come to our numbers."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
from painted_models import BlobPredictor, ScenePredictor
from PIL import Image
from torch import nn

import pointrend.zoo
from pointrend.cli import main
from pointrend.data import DatasetError, find_samples
from pointrend.data.classes import ADE20K, CITYSCAPES, CITYSCAPES_THINGS, VOC, ClassInfo
from pointrend.errors import PointRendError
from pointrend.evaluation import Evaluation, evaluate, evaluate_results, submission
from pointrend.models import InstanceArchitecture, SemanticArchitecture
from pointrend.spec import InstanceSpec, SemanticSpec
from pointrend.zoo import Model


@pytest.fixture
def semantic(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """Makes a model of a data set's classes, which `load_model` returns; it finds three of them."""

    def make(classes: tuple[ClassInfo, ...], shown: tuple[int, ...]) -> Model:
        spec = SemanticSpec(
            name="scenes", num_logits=len(classes), architecture=SemanticArchitecture(), classes=classes
        )
        return used(monkeypatch, Model(nn.Identity(), spec).eval(), ScenePredictor(classes, shown))

    return make


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Model]:
    """Makes an instance model, as `semantic` does."""

    def make(classes: tuple[ClassInfo, ...], shown: tuple[int, ...], *, bright: int = 100) -> Model:
        spec = InstanceSpec(name="blobs", num_logits=len(classes), architecture=InstanceArchitecture(), classes=classes)
        model = Model(nn.Identity(), spec).eval()
        return used(monkeypatch, model, BlobPredictor(classes, shown, bright=bright))

    return make


def used(monkeypatch: pytest.MonkeyPatch, model: Model, predictor: object) -> Model:
    monkeypatch.setattr(Model, "scoring_predictor", lambda self, options=None: predictor)
    monkeypatch.setattr(pointrend.zoo, "load_model", lambda name, **settings: model)
    return model


def files(folder: Path) -> list[str]:
    """All files of a submission but the list of them."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found.remove("submission.json")
    assert json.loads((folder / "submission.json").read_text())["files"] == found
    return found


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_cityscapes_reads_label_images(tmp_path: Path, semantic: Callable[..., Model]) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    root, out = miniatures.cityscapes(tmp_path / "data"), tmp_path / "out"
    found = evaluate(semantic(CITYSCAPES, (0, 13, 11)), root, split="val", layout="cityscapes", submit=out)
    assert files(out) == [f"frankfurt_000000_00{number}_leftImg8bit.png" for number in ("0019", "0020")]

    settings = copy.copy(script.args)
    settings.predictionPath, settings.predictionWalk = str(out), None
    settings.evalInstLevelScore, settings.quiet = False, True
    matrix = script.generateMatrix(settings)
    for truth in sorted((root / "gtFine" / "val").rglob("*_gtFine_labelIds.png")):
        prediction = script.getPrediction(settings, str(truth))
        script.evaluatePair(prediction, str(truth), matrix, {}, {}, settings)
    for name, label_id in (("road", 7), ("car", 26), ("person", 24)):
        theirs = 100 * script.getIouScoreForLabel(label_id, matrix, settings)
        assert theirs == pytest.approx(found.rows["pointrend"][f"iou/{name}"], abs=1e-4)
        assert theirs != pytest.approx(found.rows["coarse"][f"iou/{name}"], abs=1)


def test_cityscapes_reads_instances(
    tmp_path: Path, instance: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script
    from cityscapesscripts.evaluation.instances2dict import instances2dict

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which numpy 2.4 removed
    root, out = miniatures.cityscapes(tmp_path / "data"), tmp_path / "out"
    model = instance(CITYSCAPES_THINGS, (2, 0), bright=130)
    found = evaluate(model, root, split="val", layout="cityscapes-instances", submit=out)
    texts = [name for name in files(out) if name.endswith(".txt")]
    assert texts == ["frankfurt_000000_000019_pred.txt", "frankfurt_000000_000020_pred.txt"]
    masks = [np.array(Image.open(path)) for path in (out / "masks").iterdir()]
    assert all(mask.any() and mask.shape == (64, 64) for mask in masks)

    settings = copy.copy(script.args)
    settings.predictionPath, settings.predictionWalk, settings.quiet = str(out), None, True
    script.setInstanceLabels(settings)
    truths = [str(path) for path in sorted((root / "gtFine" / "val").rglob("*_gtFine_instanceIds.png"))]
    predictions = [script.getPrediction(truth, settings) for truth in truths]
    assert all(one["conf"] > 0 for path in predictions for one in script.readPredInfo(path, settings).values())
    matches = script.matchGtWithPreds(predictions, truths, instances2dict(truths, False), settings)
    averages = script.computeAverages(script.evaluateMatches(matches, settings), settings)
    ours = found.rows["224x224"]["cityscapes_ap"]
    assert 0 < ours < 100
    assert 100 * averages["allAp"] == pytest.approx(ours)
    assert ours != pytest.approx(found.rows["coarse"]["cityscapes_ap"])


def check_label_images(found: Evaluation, folder: Path, labels: Path, values: dict[str, int], ignored: int) -> None:
    """Compute IoUs of the files as a benchmark that takes label images does."""
    pairs = [(np.array(Image.open(p)), np.array(Image.open(labels / p.name))) for p in sorted(folder.glob("*.png"))]
    assert len(pairs) == found.num_images
    for name, value in values.items():
        inter = sum(((p == value) & (t == value) & (t != ignored)).sum() for p, t in pairs)
        union = sum((((p == value) | (t == value)) & (t != ignored)).sum() for p, t in pairs)
        assert 100 * inter / union == pytest.approx(found.rows["pointrend"][f"iou/{name}"], abs=1e-4)
        assert 100 * inter / union != pytest.approx(found.rows["coarse"][f"iou/{name}"], abs=1)


def test_ade20k_takes_8_bits_from_1(tmp_path: Path, semantic: Callable[..., Model]) -> None:
    root, out = miniatures.ade20k(tmp_path / "data"), tmp_path / "out"
    found = evaluate(semantic(ADE20K, (2, 5, 149)), root, split="validation", layout="ade20k", submit=out)
    assert files(out) == ["ADE_val_00000001.png", "ADE_val_00000002.png"]
    with Image.open(out / "ADE_val_00000001.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (64, 64))
        assert set(np.unique(np.array(image))) == {3, 6, 150}
    truth = root / "annotations" / "validation"
    check_label_images(found, out, truth, {ADE20K[2].name: 3, ADE20K[149].name: 150}, ignored=0)


def test_voc_takes_palette_images_in_a_folder(tmp_path: Path, semantic: Callable[..., Model]) -> None:
    root, out = miniatures.voc(tmp_path / "data"), tmp_path / "out"
    found = evaluate(semantic(VOC, (0, 15, 20)), root, split="val", submit=out)
    assert files(out) == ["results/VOC2012/Segmentation/comp6_test_cls/2007_000033.png"]
    (path,) = out.rglob("2007_000033.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        palette = np.array(image.getpalette()).reshape(-1, 3)
    assert palette[[0, 15, 20]].tolist() == [[0, 0, 0], [192, 128, 128], [0, 64, 128]]  # VOC's devkit
    values = {"person": 15, VOC[20].name: 20}
    check_label_images(found, path.parent, root / "SegmentationClass", values, ignored=255)


def test_coco_reads_results(tmp_path: Path, instance: Callable[..., Model]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    root, out = miniatures.coco(tmp_path / "data"), tmp_path / "out"
    samples = find_samples(root, task="instance", split="val2017")
    found = evaluate(instance(samples.classes, (1, 0)), samples, submit=out)
    assert files(out) == ["results.json"]
    written = json.loads((out / "results.json").read_text())
    assert {one["image_id"] for one in written} == {139, 285, 431, 577}
    assert {one["category_id"] for one in written} == {3, 18}

    truth = COCO(str(root / "annotations" / "instances_val2017.json"))
    results = truth.loadRes(str(out / "results.json"))
    for kind, row in (("segm", "mask"), ("bbox", "box")):
        scoring = COCOeval(truth, results, kind)
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
        ours = found.rows["224x224"]
        assert 0 < ours[f"{row}_ap"] < 100
        expected = [ours[f"{row}_{number}"] for number in ("ap", "ap50", "ap75")]
        assert (100 * scoring.stats[:3]).tolist() == pytest.approx(expected)
    assert found.rows["coarse"]["mask_ap"] != pytest.approx(found.rows["224x224"]["mask_ap"])
    again = evaluate_results(out / "results.json", samples).rows["results"]
    assert again == pytest.approx(found.rows["224x224"], nan_ok=True)


def test_data_sets_without_a_benchmark(tmp_path: Path, semantic: Callable[..., Model]) -> None:
    """Label images have the values of classes.json; objects go into COCO's format, by the images' names."""
    root = tmp_path / "data"
    described = [{"name": name, "value": value} for name, value in (("ground", 7), ("disc", 30), ("polygon", 200))]
    for seed, stem in enumerate("ab"):
        miniatures.write_scene(root / "images" / f"{stem}.png", root / "labels" / f"{stem}.png", seed, (7, 30, 200))
    (root / "classes.json").write_text(json.dumps(described))
    samples = find_samples(root, task="semantic")
    found = evaluate(semantic(samples.classes, (0, 1, 2)), samples, submit=tmp_path / "out")
    assert files(tmp_path / "out") == ["a.png", "b.png"]
    check_label_images(found, tmp_path / "out", root / "labels", {"disc": 30, "polygon": 200}, ignored=255)


def test_objects_of_id_images_are_scored_again(tmp_path: Path, instance: Callable[..., Model], blobs: Path) -> None:
    samples = find_samples(blobs / "val", task="instance", layout="instance-ids")
    found = evaluate(instance(samples.classes, (0,)), samples, limit=2, submit=tmp_path / "out")
    again = evaluate_results(tmp_path / "out" / "results.json", samples, limit=2).rows["results"]
    assert again == pytest.approx(found.rows["224x224"], nan_ok=True)


def test_nothing_found_is_an_empty_list(tmp_path: Path, instance: Callable[..., Model]) -> None:
    samples = find_samples(miniatures.coco(tmp_path / "data"), task="instance", split="val2017")
    with submission(tmp_path / "out", samples):
        pass
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == []


def without_labels_of_cityscapes(root: Path) -> Path:
    shutil.rmtree(miniatures.cityscapes(root) / "gtFine" / "test")
    return root


def release_test_of_ade20k(root: Path) -> Path:
    (miniatures.ade20k(root) / "images" / "testing").rename(root / "testing")
    return root


@pytest.mark.parametrize(
    ("write", "layout", "split", "classes", "expected"),
    [
        (without_labels_of_cityscapes, "cityscapes", "test", CITYSCAPES, "berlin_000000_000019_leftImg8bit.png"),
        (miniatures.ade20k, "ade20k", "test", ADE20K, "ADE_test_00000001.png"),
        (release_test_of_ade20k, "ade20k", "testing", ADE20K, "ADE_test_00000001.png"),
        (miniatures.voc, "voc", "test", VOC, "results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"),
    ],
)
def test_a_split_without_labels_is_predicted_alone(
    write: Callable[[Path], Path],
    layout: str,
    split: str,
    classes: tuple[ClassInfo, ...],
    expected: str,
    tmp_path: Path,
    semantic: Callable[..., Model],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, out = write(tmp_path / "data"), tmp_path / "out"
    semantic(classes, (0, 13, 11))
    code, printed, said = command(capsys, "eval", "scenes", root, "--layout", layout, "--split", split, "--submit", out)
    assert code == 0, said
    assert "images without labels, so nothing is scored" in printed
    assert f"{out}: the results of {len(files(out))} images, in the form" in said
    assert files(out)[0] == expected
    code, _, said = command(capsys, "eval", "scenes", root, "--layout", layout, "--split", split)
    assert code == 2
    assert said.count("\n") == 1


@pytest.mark.parametrize("data", ["data", "data/annotations/image_info_test2017.json"])
def test_coco_lists_images_without_annotations(
    data: str, tmp_path: Path, instance: Callable[..., Model], capsys: pytest.CaptureFixture[str]
) -> None:
    miniatures.coco(tmp_path / "data")
    instance((ClassInfo("car", (0, 0, 0)), ClassInfo("dog", (9, 9, 9))), (1, 0))
    out, root = tmp_path / "out", tmp_path / data
    code, printed, said = command(capsys, "eval", "blobs", root, "--split", "test", "--submit", out, "--json")
    assert code == 0, said
    assert json.loads(printed)["rows"] == {"coarse": {}, "224x224": {}}
    assert {one["image_id"] for one in json.loads((out / "results.json").read_text())} == {139, 285, 431, 577}


def test_coco_test_dev_is_a_part_of_the_images_of_test(tmp_path: Path) -> None:
    root = miniatures.coco(tmp_path / "data")
    listed = root / "annotations" / "image_info_test2017.json"
    listed.rename(listed.with_name("image_info_test-dev2017.json"))
    shutil.rmtree(root / "val2017")
    found = find_samples(root, task="instance", split="test-dev", labelled=False)
    assert [sample.image for sample in found.samples] == sorted((root / "test2017").iterdir())
    assert (found.metrics, found.class_names, found.category_ids) == ((), ("car", "dog"), (3, 18))


def test_cityscapes_test_split_has_void_labels_alone(tmp_path: Path, semantic: Callable[..., Model]) -> None:
    root = miniatures.cityscapes(tmp_path / "data")
    found = evaluate(
        semantic(CITYSCAPES, (0, 13, 11)), root, split="test", layout="cityscapes", submit=tmp_path / "out"
    )
    assert np.isnan(found.rows["pointrend"]["miou"])
    assert len(files(tmp_path / "out")) == 2


def test_wrong_annotations_do_not_pass_for_none(tmp_path: Path) -> None:
    """What is wrong with labels that are there is said, though images without any would do."""
    root = miniatures.coco(tmp_path / "coco")
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = 1
    path.write_text(json.dumps(content))
    for place, split in ((root, "val"), (path, None)):
        with pytest.raises(DatasetError, match="is of image 1, which the file lacks"):
            find_samples(place, task="instance", split=split, labelled=False)
    listed = root / "annotations" / "image_info_test2017.json"
    listed.write_text(json.dumps(json.loads(listed.read_text()) | {"images": []}))
    with pytest.raises(DatasetError, match=r"image_info_test2017\.json: lists no images"):
        find_samples(root, task="instance", split="test", labelled=False)
    root = miniatures.cityscapes(tmp_path / "cityscapes")
    next((root / "gtFine" / "val").rglob("*_instanceIds.png")).unlink()
    with pytest.raises(DatasetError, match="no labels of the same name"):
        find_samples(root, layout="cityscapes-instances", split="val", labelled=False)
    root = miniatures.ade20k(tmp_path / "ade20k")
    shutil.rmtree(root / "annotations" / "validation")
    (root / "annotations" / "validation").mkdir()
    with pytest.raises(DatasetError, match="no images in this folder"):
        find_samples(root, layout="ade20k", split="val", labelled=False)
    with pytest.raises(DatasetError, match="has no split 'vla'"):
        find_samples(root, layout="ade20k", split="vla", labelled=False)
    root = miniatures.voc(tmp_path / "voc")
    shutil.rmtree(root / "SegmentationClassAug")
    with pytest.raises(DatasetError, match="SegmentationClassAug: no such folder"):
        find_samples(root, layout="voc", split="trainaug", labelled=False)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000033\nmissing\n")
    with pytest.raises(DatasetError, match="lists missing without image and label"):
        find_samples(root, layout="voc", split="val", labelled=False)


@pytest.fixture
def scene(tmp_path: Path, semantic: Callable[..., Model]) -> tuple[Model, Path]:
    """A model and the Cityscapes folder that it is for."""
    return semantic(CITYSCAPES, (0, 13, 11)), miniatures.cityscapes(tmp_path / "data")


def submit(scene: tuple[Model, Path], out: Path, **more: Any) -> Evaluation:
    return evaluate(scene[0], scene[1], split="val", layout="cityscapes", submit=out, **more)


def test_an_earlier_submission_is_replaced_whole(scene: tuple[Model, Path], tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    submit(scene, out)
    assert len(files(out)) == 2
    (out / ".pointrend-killed").mkdir()
    (out / ".pointrend-killed" / "a.png").touch()
    submit(scene, out, limit=1)
    assert len(files(out)) == 1
    assert {path.name for path in out.iterdir()} == {*files(out), "submission.json"}  # nothing hidden is left


def test_files_of_others_stay(scene: tuple[Model, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    submit(scene, out, limit=1)
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(PointRendError, match=r"holds other files than a submission of ours, notes.mine\.txt; give a"):
        submit(scene, out)
    empty = tmp_path / "theirs"
    empty.mkdir()
    (empty / "submission.json").write_text('{"files": ["a.png"]}')
    (empty / "a.png").touch()
    with pytest.raises(PointRendError, match=r"a\.png and 1 more; give a new or an empty folder"):
        submit(scene, empty)
    assert (out / "notes" / "mine.txt").read_text() == "mine"
    assert (empty / "a.png").exists()
    code, _, said = command(capsys, "eval", "scenes", scene[1], "--split", "val", "--submit", empty)
    assert (code, said.count("\n")) == (2, 1)
    with pytest.raises(PointRendError, match=r"is not a folder; a submission needs a new or an empty one"):
        submit(scene, empty / "a.png")


def test_an_error_leaves_the_folder_as_it_was(scene: tuple[Model, Path], tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    new, out = tmp_path / "new", tmp_path / "out"
    submit(scene, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for folder in (new, out):
        with pytest.raises(KeyboardInterrupt):
            submit(scene, folder, progress=stop)
    assert not new.exists()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_wrong_usage(scene: tuple[Model, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = command(capsys, "eval", "found.json", scene[1], "--submit", tmp_path / "out")
    assert code == 2
    assert "--submit writes what a model predicts; a results file in COCO's format is a submission" in said
    samples = find_samples(scene[1], layout="cityscapes-instances", split="val")
    result = scene[0].scoring_predictor().compare(np.zeros((8, 8, 3), np.uint8))["pointrend"]
    with (
        pytest.raises(PointRendError, match="'cityscapes-instances' takes InstanceResult, the model gives Semantic"),
        submission(tmp_path / "out", samples) as take,
    ):
        take(samples.samples[0], result)
    object.__setattr__(samples, "submission", "cocoo")
    with (
        pytest.raises(PointRendError, match="no form of submission 'cocoo'; expected one of labels, voc, coco"),
        submission(tmp_path / "out", samples),
    ):
        pass
    assert not (tmp_path / "out").exists()
