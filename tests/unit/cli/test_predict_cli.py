from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pointrend.explain
import pointrend.zoo
import pointrend.zoo.load
from pointrend.cli.photos import find_photos, output_stems
from pointrend.data.images import read_labels
from pointrend.predict import SemanticPredictor
from pointrend.results import SemanticResult
from pointrend.zoo import Model

Run = Callable[..., tuple[int, str, str]]


def save_photo(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_a_model_file_to_labels_end_to_end(run: Run, photo: Path, small_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    code, said, errors = run("predict", photo, "--model", small_file, "--out", out, "--points", 100, "--size", 64)
    assert (code, errors) == (0, "")
    assert names(out) == ["photo.json", "photo.png", "photo_overlay.png"]
    assert read_labels(out / "photo.png").shape == (50, 70)
    assert "photo.png, photo_overlay.png, photo.json" in said
    assert lines(said)[-1] == f"1 of 1 done; the results are in {out}"


def test_labels_are_right_and_counted(predict: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(photo, "--out", out)[0] == 0
    with Image.open(photo) as image:
        expected = np.asarray(image).argmax(axis=2)
    assert np.array_equal(read_labels(out / "photo.png"), expected)
    summary = json.loads((out / "photo.json").read_text())
    assert sum(c["pixels"] for c in summary["classes"]) == 50 * 70
    assert {c["name"]: c["pixels"] for c in summary["classes"]}["blue"] == (expected == 2).sum()


def test_the_reference_writes_the_same(predict: Run, photo: Path, tmp_path: Path) -> None:
    for out, options in (("fast", []), ("dense", ["--dense"]), ("reference", ["--reference"])):
        assert predict(photo, "--out", tmp_path / out, *options)[0] == 0
    fast, *others = ((tmp_path / out / "photo.png").read_bytes() for out in ("fast", "dense", "reference"))
    assert others == [fast, fast]


def test_bad_files_get_a_line_each_and_the_rest_is_done(predict: Run, photo: Path, tmp_path: Path) -> None:
    bad = [tmp_path / "no.jpg", tmp_path / "empty.png", tmp_path / "text.jpg", tmp_path / "cut.png"]
    bad[1].touch()
    bad[2].write_text("not an image")
    bad[3].write_bytes(photo.read_bytes()[:100])
    second = save_photo(tmp_path / "in" / "second.jpg", np.full((40, 40, 3), 200, np.uint8))
    out = tmp_path / "out"
    code, said, errors = predict(bad[0], photo, *bad[1:], second, "--out", out)
    assert code == 1
    assert len(lines(errors)) == 4
    for line, path in zip(lines(errors), bad, strict=True):
        assert line.startswith(f"pointrend: error: {path}: ")
    assert names(out) == sorted(f"{s}{e}" for s in ("photo", "second") for e in SemanticResult.suffixes)
    assert lines(said)[-1] == f"2 of 6 done; the results are in {out}"


def test_all_bad(predict: Run, tmp_path: Path) -> None:
    code, said, errors = predict(tmp_path / "no.jpg", "--out", tmp_path / "out")
    assert code == 1
    assert said == "0 of 1 done; nothing was written\n"
    assert len(lines(errors)) == 1


def test_json_is_all_that_stdout_gets(predict: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, errors = predict(tmp_path / "no.jpg", photo, "--out", out, "--json")
    assert code == 1
    failed, done = json.loads(said)
    assert failed == {"photo": str(tmp_path / "no.jpg"), "error": f"{tmp_path / 'no.jpg'}: no such file"}
    assert done["photo"] == done["image"] == str(photo)
    assert done["files"] == [str(out / f"photo{suffix}") for suffix in SemanticResult.suffixes]
    assert all(Path(f).is_file() for f in done["files"])
    assert (done["height"], done["width"]) == (50, 70)
    assert len(lines(errors)) == 1


def test_photographs_of_one_name_get_results_of_their_own(predict: Run, tmp_path: Path) -> None:
    photos = [
        save_photo(tmp_path / folder / name, np.full((size, 40, 3), 9, np.uint8))
        for folder, name, size in (
            ("x", "a.png", 33),
            ("x", "a.bmp", 34),
            ("y", "a.png", 35),
            ("y", "a_overlay.png", 36),
        )
    ]
    out = tmp_path / "out"
    code, said, _ = predict(*photos, photos[0], "--out", out, "--json")
    assert code == 0
    records = json.loads(said)
    assert [r["photo"] for r in records] == [str(p) for p in photos]
    written = [f for r in records for f in r["files"]]
    assert len(written) == len({f.lower() for f in written}) == 12
    for record, size in zip(records, (33, 34, 35, 36), strict=True):
        assert read_labels(Path(record["files"][0])).shape == (size, 40)


def test_stems_stay_apart_also_where_case_does_not_count() -> None:
    photos = [Path(p) for p in ("a.jpg", "A.png", "b/a-2.jpg", "c/a.jpg", "a_overlay.jpg", "a_overlay_overlay.jpg")]
    stems = output_stems(photos, SemanticResult.suffixes)
    assert stems[:2] == ["a", "A-2"]
    files = [f"{stem}{suffix}".lower() for stem in stems for suffix in SemanticResult.suffixes]
    assert len(files) == len(set(files))
    assert output_stems([Path("x/one.jpg"), Path("x/two.jpg")], SemanticResult.suffixes) == ["one", "two"]


def test_folders_and_patterns_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.jpg", "[x].jpg"):
        save_path = tmp_path / name
        save_path.parent.mkdir(exist_ok=True)
        save_path.touch()
    monkeypatch.chdir(tmp_path)
    photos, problems = find_photos([str(tmp_path)])
    assert ([p.name for p in photos], problems) == (["[x].jpg", "a.png", "b.JPG"], [])
    photos, problems = find_photos(["*.png", "a.png", "./a.png", "**/*.jpg", "[x].jpg"])
    assert sorted(p.name for p in photos) == ["[x].jpg", "a.png", "c.jpg"]
    assert problems == []


def test_folders_give_every_kind_of_photograph_but_no_hidden_files(tmp_path: Path) -> None:
    for name in ("a.jpg", "._a.jpg", ".hidden.png", "b.gif", "c.AVIF", "d.jfif", "e.ppm", "f.svg"):
        (tmp_path / name).touch()
    photos, problems = find_photos([str(tmp_path)])
    assert ([p.name for p in photos], problems) == (["a.jpg", "b.gif", "c.AVIF", "d.jfif", "e.ppm"], [])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
@pytest.mark.parametrize("options", [[], ["--json"], ["--explain"]])
def test_a_name_that_is_not_utf_8(predict: Run, photo: Path, tmp_path: Path, options: list[str]) -> None:
    odd = photo.rename(photo.with_name(os.fsdecode(b"caf\xe9.png")))
    out = tmp_path / "out"
    code, said, errors = predict(odd, "--out", out, *options)
    assert (code, errors) == (0, "")
    written = [odd.stem + suffix for suffix in SemanticResult.suffixes]
    assert set(written) <= set(names(out))
    if options == ["--json"]:
        assert json.loads(said)[0]["files"] == [str(out / name) for name in written]
    else:
        assert "caf\\udce9.png -> caf\\udce9.png, " in said
    assert predict(odd, "--out", out, *options)[0] == 0


def test_an_empty_folder_and_a_pattern_without_files_are_errors(predict: Run, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    code, said, errors = predict(tmp_path / "empty", tmp_path / "*.gif", photo, "--out", tmp_path / "out")
    assert code == 1
    empty, pattern = lines(errors)
    assert empty.startswith(f"pointrend: error: {tmp_path / 'empty'}: no photos in this folder")
    assert pattern == f"pointrend: error: {tmp_path / '*.gif'}: no file matches this pattern"
    assert lines(said)[-1].startswith("1 of 3 done")


def test_a_second_run_replaces_results_and_does_not_take_them_for_photographs(predict: Run, photo: Path) -> None:
    jpeg = photo.with_suffix(".jpg")
    with Image.open(photo) as image:
        image.save(jpeg)
    photo.unlink()
    for _ in range(2):
        assert predict(photo.parent, "--out", photo.parent)[0] == 0
        assert names(photo.parent) == ["photo.jpg", "photo.json", "photo.png", "photo_overlay.png"]


def test_inputs_are_never_replaced(predict: Run, photo: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    other = save_photo(photo.parent / "b_overlay.png", np.zeros((40, 40, 3), np.uint8))
    b = save_photo(photo.parent / "b.jpg", np.zeros((40, 40, 3), np.uint8))
    kept = other.read_bytes()
    code, _, errors = predict(photo, b, other, "--out", photo.parent)
    assert code == 1
    assert f"{photo}: the result would replace the input {photo}; choose another --out" in errors
    assert f"{b}: the result would replace the input {other}" in errors
    assert (photo.read_bytes(), other.read_bytes()) == (before, kept)


def test_files_of_others_are_never_replaced(predict: Run, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.json").write_text('{"mine": true}')
    code, _, errors = predict(photo, "--out", out)
    assert code == 1
    assert "photo.json, which pointrend did not write" in errors
    assert names(out) == ["photo.json"]
    assert json.loads((out / "photo.json").read_text()) == {"mine": True}


def test_explain_writes_a_picture_more(
    predict: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    encode, runs = SemanticPredictor.encode, []
    monkeypatch.setattr(SemanticPredictor, "encode", lambda self, pixels: runs.append(1) or encode(self, pixels))
    code, said, _ = predict(photo, "--out", out, "--explain", "--steps", "1", "--json")
    assert code == 0
    assert len(runs) == 2  # the photo and its mirror image
    assert json.loads(said)[0]["files"][-1] == str(out / "photo_explain.png")
    with Image.open(out / "photo_explain.png") as image:
        assert min(image.size) > 500
        image.verify()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["a.jpg", "--sise", "64"], "No such option: --sise"),
        (["a.jpg", "--size", "big"], "Invalid value for '--size'"),
        (["a.jpg", "--size", "8"], "size must be 32 to 8192"),
        (["a.jpg", "--points", "0"], ": points must be 1 to 100000000"),
        (["a.jpg", "--steps", "99"], "steps must be 0 to 8"),
        (["a.jpg", "--adaptive"], "--adaptive is for instance models"),
        (["a.jpg", "--score", "0.5"], "--score is for instance models"),
        (["a.jpg", "--device", "toaster"], "'toaster' is not a device"),
        (["a.jpg", "--device", "cuda:99"], "'cuda:99' is not available here"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    predict: Run, arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, errors = predict(*arguments)
    assert (code, out) == (2, "")
    assert len(lines(errors)) == 1
    assert errors.startswith("pointrend: error: ")
    assert said in errors
    assert names(tmp_path) == []


def test_out_must_be_a_folder(predict: Run, photo: Path) -> None:
    code, _, errors = predict(photo, "--out", photo)
    assert code == 2
    assert f"--out must be a folder, {photo} is a file" in errors


def test_unknown_commands_and_models(run: Run, photo: Path, tmp_path: Path) -> None:
    code, _, errors = run("predcit", photo)
    assert code == 2
    assert len(lines(errors)) == 1
    code, _, errors = run("predict", photo, "--model", "peple", "--out", tmp_path / "out")
    assert code == 2
    assert "no model is called 'peple'" in errors
    assert len(lines(errors)) == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_model_is_one_line_and_exit_1(run: Run, photo: Path, small_file: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(small_file.read_bytes()[:-10])
    code, out, errors = run("predict", photo, "--model", damaged, "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert len(lines(errors)) == 1
    assert str(damaged) in errors


def test_no_arguments_print_help(run: Run) -> None:
    for arguments in ([], ["--help"]):
        code, said, errors = run(*arguments)
        assert (code, errors) == (0, "")
        for command in ("predict", "models", "train", "eval"):
            assert f"  {command} " in said
    assert run("--version")[:2] == (0, f"pointrend {pointrend.__version__}\n")


def test_interruption_is_exit_130(predict: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SemanticPredictor, "encode", interrupt)
    code, _, errors = predict(photo, "--out", tmp_path / "out")
    assert (code, errors) == (130, "pointrend: error: interrupted\n")
    assert names(tmp_path / "out") == []


def test_what_torch_raises_for_one_photo_does_not_end_the_others(
    predict: Run, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = save_photo(tmp_path / "in" / "tiny.png", np.zeros((40, 40, 3), np.uint8))
    encode = SemanticPredictor.encode

    def sometimes(self: SemanticPredictor, pixels: np.ndarray) -> object:
        if pixels.shape[0] == 50:
            raise RuntimeError("out of luck\nand of lines")
        return encode(self, pixels)

    monkeypatch.setattr(SemanticPredictor, "encode", sometimes)
    code, said, errors = predict(photo, other, "--out", tmp_path / "out")
    assert code == 1
    assert errors == f"pointrend: error: {photo}: out of luck and of lines\n"
    assert lines(said)[-1].startswith("1 of 2 done")


def test_models_are_listed(run: Run, small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pointrend.zoo.load, "_weights", lambda: small_file.parent)
    code, said, _ = run("models", "--json")
    assert code == 0
    entry = next(e for e in json.loads(said) if e["name"] == "small")
    assert entry["data"] == "coloured paper"
    assert entry["licence"] == "CC0-1.0"
    assert entry["size_bytes"] == small_file.stat().st_size
    assert entry["scores"] == {"miou": 61.25}
    code, said, _ = run("models")
    assert code == 0
    row = next(line for line in lines(said) if line.startswith("small"))
    assert "bundled" in row


@pytest.mark.parametrize(
    "statement",
    [
        "import pointrend; assert 'Model' in dir(pointrend)",
        "from pointrend.cli import main; main(['--help'])",
        "from pointrend.cli import main; main(['predict', '--help'])",
    ],
)
def test_help_and_import_load_nothing_heavy(statement: str) -> None:
    heavy = ("torch", "torchvision", "timm", "numpy", "safetensors", "matplotlib", "PIL")
    program = (
        f"import sys, atexit\n"
        f"atexit.register(lambda: print('heavy:', [m for m in {heavy!r} if m in sys.modules], file=sys.stderr))\n"
        f"{statement}"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )
    assert done.returncode == 0
    assert done.stderr == "heavy: []\n"


def test_public_names_are_found_when_asked_for() -> None:
    import pointrend
    from pointrend.models import SemanticPointRend, semantic_pointrend

    assert pointrend.SemanticPointRend is SemanticPointRend
    assert pointrend.semantic_pointrend is semantic_pointrend
    assert pointrend.SemanticResult is SemanticResult
    assert pointrend.Model is Model
    for name in pointrend.__all__:
        assert getattr(pointrend, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pointrend.nothing  # noqa: B018
