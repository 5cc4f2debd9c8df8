"""Checkpoints of someone's own training: prefixes, wrappers, averages, and other numbers of classes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_names import NAMES, as_detectron2_instances
from safetensors.torch import save_file
from torch import Tensor

from pointrend.cli import main
from pointrend.data.classes import CITYSCAPES, COCO, named_classes
from pointrend.errors import PointRendWarning
from pointrend.models import InstanceArchitecture, MaskArchitecture, PointArchitecture, SemanticArchitecture
from pointrend.spec import InstanceSpec, ModelSpec, SemanticSpec
from pointrend.zoo import load_model, read_model
from pointrend.zoo.convert import read_checkpoint
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import network_of
from pointrend.zoo.names import plain_names
from pointrend.zoo.reading import CheckpointFileError, read_tensors

Tensors = dict[str, Tensor]
POINT = PointArchitecture(hidden=8, depth=1)
SEMANTIC = SemanticArchitecture(fpn_channels=8, coarse_channels=8, point=POINT)
SPECS: dict[str, ModelSpec] = {
    "mmsegmentation": SemanticSpec(
        name="small-mmseg",
        num_logits=19,
        architecture=SEMANTIC.model_copy(update={"backbone": "resnet14t"}),
        classes=CITYSCAPES,
        scores={"miou": 50},
        data="Cityscapes",
    ),
    "detectron2": SemanticSpec(
        name="small-d2",
        num_logits=19,
        architecture=SEMANTIC.model_copy(
            update={"backbone": "resnet26", "point": POINT.model_copy(update={"depth": 2})}
        ),
        classes=CITYSCAPES,
    ),
    "instances": InstanceSpec(
        name="small-rcnn",
        num_logits=80,
        architecture=InstanceArchitecture(
            backbone="resnet26",
            fpn_channels=16,
            box_hidden=8,
            mask=MaskArchitecture(channels=8, hidden=8, point=POINT),
        ),
        classes=COCO,
    ),
}


def published(kind: str) -> Published:
    source = "detectron2" if kind == "instances" else kind
    return Published(
        spec=SPECS[kind], source=source, url="https://example.org/a.pth", sha256=None, size_bytes=None, weight_bytes=1
    )


@pytest.fixture(autouse=True)
def small_zoo() -> Iterator[None]:
    before = dict(PUBLISHED)
    PUBLISHED.clear()
    PUBLISHED.update({SPECS[kind].name: published(kind) for kind in SPECS})
    yield
    PUBLISHED.clear()
    PUBLISHED.update(before)


def weights(kind: str, num_logits: int | None = None) -> tuple[Tensors, Tensors]:
    """Our weights of a model, and the same as their authors would save them."""
    torch.manual_seed(0)
    spec = SPECS[kind] if num_logits is None else SPECS[kind].model_copy(update={"num_logits": num_logits})
    ours = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in network_of(spec).state_dict().items()}
    if kind == "instances":
        # The background's box does not exist there.
        for name in ("box_predictor.bbox_pred.weight", "box_predictor.bbox_pred.bias"):
            ours[name][:4] = 0
        return ours, as_detectron2_instances(ours)
    named = {NAMES[kind](name): value for name, value in ours.items()}
    return ours, {str(name): value for name, value in named.items() if name is not None}


def noticed(read: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = read()
    assert all(issubclass(warning.category, PointRendWarning) for warning in caught)
    return found, [str(warning.message) for warning in caught]


def check(path: Path, ours: Tensors, *said: str, **options: Any) -> ModelSpec:
    model, messages = noticed(lambda: read_checkpoint(path, **options))
    state = model.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in ours.items())
    assert len(messages) == len(said)
    for message, part in zip(messages, said, strict=True):
        assert message.startswith(f"{path}: ")
        assert part in message
    return model.spec


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


PREFIXES = ["module.", "model.", "_orig_mod.", "ema_", "ema.", "ema_model.", "model_ema.", "module.module.",
            "model._orig_mod.module.", "ema_model.module.", "_orig_mod.module.model."]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_left_off(tmp_path: Path, prefix: str) -> None:
    ours, theirs = weights("mmsegmentation")
    path = tmp_path / "x.pth"
    torch.save({"state_dict": prefixed(theirs, prefix)}, path)
    assert check(path, ours, f"the names begin with {prefix!r}, which was left off") == SPECS["mmsegmentation"]


def test_every_kind_of_file_and_toolbox(tmp_path: Path) -> None:
    for kind in SPECS:
        ours, theirs = weights(kind)
        path = tmp_path / f"{kind}.safetensors"
        save_file(prefixed({k: v.contiguous() for k, v in theirs.items()}, "model."), path)
        assert check(path, ours, "begin with 'model.'") == SPECS[kind]


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda t: {"state_dict": t}, ()),
        (lambda t: {"model": t, "epoch": 3}, ()),
        (lambda t: {"model": {"state_dict": t}}, ()),
        (lambda t: {"model_ema": t}, ("the weights are those under 'model_ema'",)),
        (lambda t: {"ema": {"module": t, "updates": 5}}, ("under 'module' in 'ema'",)),
        (lambda t: {"ema_state_dict": t}, ("under 'ema_state_dict'",)),
        (lambda t: {"state_dict": t, "ema_state_dict": {"x": torch.zeros(1)}}, ()),
        (
            lambda t: {"ema_state_dict": {**prefixed(t, "module."), "steps": torch.tensor(5)}},
            ("under 'ema_state_dict'", "begin with 'module.'", "steps was left out"),
        ),
        (
            lambda t: {"n_averaged": torch.tensor(7), **prefixed(t, "module.")},
            ("begin with 'module.'", "n_averaged was left out"),
        ),
        (
            lambda t: {**prefixed(t, "model."), **prefixed({k: v + 1 for k, v in t.items()}, "ema_model.module.")},
            (
                "begin with 'model.'",
                "a second copy of",
            ),
        ),
        (
            lambda t: {**t, **{"ema_" + k.replace(".", "_"): v + 1 for k, v in t.items()}},
            ("a second copy of",),
        ),
        (
            lambda t: {k.replace("backbone.", "backbone._orig_mod."): v for k, v in t.items()},
            ("'_orig_mod.' inside of names was left off",),
        ),
    ],
)
def test_wrappers_and_averages(tmp_path: Path, wrap: Callable[[Tensors], Any], said: tuple[str, ...]) -> None:
    ours, theirs = weights("mmsegmentation")
    path = tmp_path / "x.pth"
    torch.save(wrap(theirs), path)
    check(path, ours, *said)


def test_what_is_no_copy_is_still_unknown(tmp_path: Path) -> None:
    _, theirs = weights("mmsegmentation")
    path = tmp_path / "x.pth"
    torch.save({**prefixed(theirs, "model."), "criterion.weight": torch.zeros(2)}, path)
    with pytest.warns(PointRendWarning), pytest.raises(CheckpointFileError, match=r"unknown +criterion\.weight"):
        read_checkpoint(path, published("mmsegmentation"))
    name = "backbone.stem.0.weight"
    both = {name: 1, name.replace("backbone.", "backbone._orig_mod."): 2}
    assert plain_names(both)[0] == both


def test_plain_names_are_left_alone_and_endless_ones_end() -> None:
    tensors = {"backbone.a": 1, "pixel_mean": 2}
    assert plain_names(tensors) == (tensors, [])
    assert plain_names({}) == ({}, [])
    (name,) = plain_names({"module." * 10**5: 1})[0]
    assert len(name) == 7 * (10**5 - 8)


def test_nested_wrappers_end(tmp_path: Path) -> None:
    content: Any = {"a": torch.zeros(1)}
    for _ in range(9):
        content = {"model": content}
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointFileError, match="holds no weights: 'model' is a dict"):
        read_tensors(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_other_numbers_of_classes(tmp_path: Path, kind: str, count: int) -> None:
    ours, theirs = weights(kind, count)
    path = tmp_path / "x.pth"
    torch.save(prefixed(theirs, "module."), path)
    number = 2 if count == 1 and kind != "instances" else count
    names = [f"class {index}" for index in range(number)]
    said = f"its {number} classes have no names, and are called class 0 to class {number - 1}"
    spec = check(path, ours, "begin with", said)
    assert spec.class_names == tuple(names)
    assert (spec.num_logits, spec.name) == (count, f"{SPECS[kind].name}-{number}-classes")
    assert (spec.scores, spec.data, spec.layout) == ({}, "", None)
    assert len({info.color for info in spec.classes}) == number
    given = named_classes([f"thing {index}" for index in range(number)])
    assert check(path, ours, "begin with", classes=given).classes == given
    assert check(path, ours, "begin with", published=published(kind), classes=given).classes == given
    with pytest.raises(CheckpointFileError, match=rf"x\.pth: the weights have {number} classes, and 7 were named"):
        noticed(lambda: read_checkpoint(path, classes=named_classes(list("abcdefg"))))
    loaded, messages = noticed(lambda: load_model(path))
    assert loaded.spec.class_names == tuple(names)
    assert said in messages[-1]


def test_models_that_differ_in_settings_alone(tmp_path: Path) -> None:
    other = published("mmsegmentation")
    test = other.spec.test.model_copy(update={"shortest": 320})
    PUBLISHED["other"] = other.model_copy(
        update={"spec": other.spec.model_copy(update={"name": "other", "test": test})}
    )
    ours, theirs = weights("mmsegmentation", 5)
    path = tmp_path / "x.pth"
    torch.save(theirs, path)
    spec = check(
        path, ours, "it may be any of small-mmseg, other: the test settings are those of small-mmseg", "class 0"
    )
    assert spec.test == other.spec.test
    assert check(path, ours, "class 0", published=PUBLISHED["other"]).test == test


def test_names_for_as_many_classes_as_published(tmp_path: Path) -> None:
    ours, theirs = weights("mmsegmentation")
    path = tmp_path / "x.pth"
    torch.save(theirs, path)
    given = named_classes([f"thing {index}" for index in range(19)])
    spec = check(path, ours, classes=given)
    assert (spec.classes, spec.name, spec.scores) == (given, "small-mmseg", {"miou": 50})


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["convert", *map(str, arguments)])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(ended.value.code or 0), said


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, theirs = weights("mmsegmentation", 3)
    path, out = tmp_path / "x.pth", tmp_path / "out.safetensors"
    torch.save(prefixed(theirs, "module."), path)
    code, said = run(capsys, path, "--out", out)
    assert code == 0
    assert [line.startswith(f"pointrend: note: {path}: ") for line in said.splitlines()] == [True, True]
    assert "class 0 to class 2" in said
    assert run(capsys, path, "--out", out, "--classes", "sky, road,car")[0] == 0
    assert read_model(out).spec.class_names == ("sky", "road", "car")
    (tmp_path / "names.json").write_text(json.dumps(["a", {"name": "b", "color": [1, 2, 3]}, "c"]))
    assert run(capsys, path, "--out", out, "--classes", tmp_path / "names.json")[0] == 0
    assert read_model(out).spec.classes[1].color == (1, 2, 3)
    for classes, code, part in (
        ("a,b", 1, "the weights have 3 classes, and 2 were named"),
        ("a,a,b", 2, "--classes: class names must differ, 'a' occurs more than once"),
        ("a,,b", 2, "--classes: expected a name"),
        ("a,\x1b[2J,b", 2, r"--classes: a class name must have no control characters, got '\x1b[2J'"),
        (tmp_path / "missing.json", 2, "missing.json: no such file"),
    ):
        assert run(capsys, path, "--out", out, "--classes", classes)[0] == code
        assert part in run(capsys, path, "--out", out, "--classes", classes)[1]
