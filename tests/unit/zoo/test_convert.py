"""Conversion of published checkpoints, on small networks whose names are made by the toolboxes' rules."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from foreign_names import NAMES
from torch import Tensor

from pointrend.data.classes import CITYSCAPES
from pointrend.models import PointArchitecture, SemanticArchitecture
from pointrend.spec import SemanticSpec
from pointrend.zoo import rules
from pointrend.zoo.convert import identify, to_model
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import network_of
from pointrend.zoo.reading import CheckpointFileError
from pointrend.zoo.rules import current_name, our_name

Tensors = dict[str, Tensor]
SMALL = SemanticArchitecture(fpn_channels=16, coarse_channels=32, point=PointArchitecture(hidden=8, depth=2))


def published(source: str) -> Published:
    first_alone = SMALL.point.model_copy(update={"coarse_every_layer": False})
    own: dict[str, object] = {
        "mmsegmentation": {"backbone": "resnet14t"},
        "detectron2": {
            "backbone": "resnet26", "stride_in_1x1": True, "coarse_norm": "group", "point": first_alone,
        },
    }[source]  # fmt: skip
    spec = SemanticSpec(
        name=f"small-{source}",
        num_logits=19,
        architecture=SMALL.model_copy(update=own),
        classes=CITYSCAPES,
    )
    return Published.model_validate(
        {"spec": spec, "source": source, "url": "https://example.org/a.pth", "sha256": None, "size_bytes": None,
         "weight_bytes": 1}
    )  # fmt: skip


@pytest.fixture(scope="module", params=sorted(NAMES))
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ours(source: str) -> Tensors:
    torch.manual_seed(0)
    state = network_of(published(source).spec).state_dict()
    return {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in state.items()}


@pytest.fixture
def theirs(source: str, ours: Tensors) -> Tensors:
    """As the toolbox would have saved the same network: point layers are convolutions of one tap."""
    named = {NAMES[source](name): value for name, value in ours.items()}
    named.pop(None, None)
    point = ("point_head", "decode_head.1")
    return {
        name: value.unsqueeze(2) if any(p in name for p in point) and value.ndim == 2 else value
        for name, value in named.items()
        if name is not None
    }


@pytest.fixture(autouse=True)
def small_zoo() -> Iterator[None]:
    """The small networks are published, and no others, whose networks take time to build."""
    before = dict(PUBLISHED)
    PUBLISHED.clear()
    PUBLISHED.update({f"small-{kind}": published(kind) for kind in NAMES})
    yield
    PUBLISHED.clear()
    PUBLISHED.update(before)  # in the order of the manifest, which other tests look at


def test_every_tensor_arrives(source: str, ours: Tensors, theirs: Tensors) -> None:
    model = to_model(theirs, published(source))
    assert not model.network.training
    state = model.network.state_dict()
    assert state.keys() == ours.keys()
    for name, value in ours.items():
        assert torch.equal(state[name], value), name
    assert identify(theirs) == [f"small-{source}"]


def test_half_precision_becomes_float32(source: str, theirs: Tensors) -> None:
    halved = {k: v.half() if v.is_floating_point() else v for k, v in theirs.items()}
    state = to_model(halved, published(source)).network.state_dict()
    assert {v.dtype for v in state.values()} <= {torch.float32, torch.int64}


def test_constants_are_ignored_and_nothing_else(source: str, theirs: Tensors) -> None:
    constants = {
        "pixel_mean": torch.zeros(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.zeros(3, 4),
    }
    to_model(theirs | constants, published(source))
    with pytest.raises(CheckpointFileError, match=r"unknown +pixel_meaning \(3,\)"):
        to_model(theirs | {"pixel_meaning": torch.zeros(3)}, published(source))


def test_missing_and_misshapen_tensors_are_listed(source: str, theirs: Tensors) -> None:
    names = [n for n in theirs if n.endswith("weight") and theirs[n].ndim == 4]
    broken = dict(theirs)
    broken[names[0]] = torch.zeros(1, 2, 3, 3)
    del broken[names[1]]
    with pytest.raises(CheckpointFileError) as caught:
        to_model(broken, published(source))
    message = str(caught.value)
    assert f"the weights do not fit small-{source} (2 differences)" in message
    assert re.search(rf"shape +{re.escape(names[0])} is \(1, 2, 3, 3\), expected", message)
    assert re.search(rf"missing +{re.escape(str(our_name(names[1], source)))} \(", message)
    for name in names:
        broken.pop(name, None)
    with pytest.raises(CheckpointFileError, match=r"\n  and \d+ more$"):
        to_model(broken, published(source))


def test_the_wrong_number_of_classes_is_one_line(source: str, theirs: Tensors) -> None:
    spec = published(source).spec
    state = network_of(spec.model_copy(update={"num_logits": 7})).state_dict()
    named = {NAMES[source](k): v for k, v in state.items()}
    named.pop(None, None)
    with pytest.raises(CheckpointFileError) as caught:
        to_model({str(k): v for k, v in named.items()}, published(source))
    assert str(caught.value) == f"the weights have 7 classes, small-{source} has 19"


def test_other_models_are_named(source: str, theirs: Tensors) -> None:
    other = next(kind for kind in NAMES if kind != source)
    with pytest.raises(CheckpointFileError) as caught:
        to_model(theirs, published(other))
    assert str(caught.value).startswith(f"the weights are those of small-{source}, not of small-{other}")
    changed = theirs | {next(iter(theirs)): torch.zeros(1)}
    with pytest.raises(CheckpointFileError, match=f"the names are those of {source}"):
        to_model(changed, published(other))


def test_weights_of_something_else(source: str) -> None:
    with pytest.raises(CheckpointFileError, match="no name in it is one of") as caught:
        to_model({"fc.weight": torch.zeros(2, 2)}, published(source))
    assert "\n" not in str(caught.value)
    assert identify({"fc.weight": torch.zeros(2, 2)}) == []
    assert identify({}) == []


def test_two_names_for_one_tensor_and_numbers_that_are_none(source: str, theirs: Tensors) -> None:
    name = next(n for n in theirs if n.endswith("weight"))
    with pytest.raises(CheckpointFileError, match="not finite"):
        to_model(theirs | {name: torch.full_like(theirs[name], torch.nan)}, published(source))


def test_names_that_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_LEGACY", ((re.compile(r"^old\."), "sem_seg_head."),))
    same = {"old.point_head.fc1.bias": torch.zeros(2), "sem_seg_head.point_head.fc1.bias": torch.zeros(2)}
    with pytest.raises(CheckpointFileError, match="mean the same"):
        to_model(same, published("detectron2"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("roi_heads.mask_coarse_head.reduce_spatial_dim_conv.bias",
         "roi_heads.mask_head.coarse_head.reduce_spatial_dim_conv.bias"),
        ("roi_heads.mask_coarse_head.coarse_mask_fc2.weight", "roi_heads.mask_head.coarse_head.fc2.weight"),
        ("roi_heads.mask_point_head.fc1.weight", "roi_heads.mask_head.point_head.fc1.weight"),
        ("mask_point_head.predictor.bias", "mask_head.point_head.predictor.bias"),
        ("roi_heads.mask_head.point_head.fc1.weight", "roi_heads.mask_head.point_head.fc1.weight"),
        ("sem_seg_head.point_head.fc1.weight", "sem_seg_head.point_head.fc1.weight"),
    ],
)  # fmt: skip
def test_older_names(old: str, new: str) -> None:
    assert current_name(old) == new


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("point_head.classifier.bias", lambda t: t.long(), "point_head.classifier.bias is int64; expected floating"),
        ("point_head.classifier.bias", lambda t: t.to(torch.complex64), "is complex64; expected floating"),
        ("point_head.classifier.bias", lambda t: t.double() + 1e300, "not finite"),
        ("backbone.model.bn1.running_var", lambda t: t - 100, "negative variances"),
    ],
)
def test_numbers_that_no_network_has(
    source: str, theirs: Tensors, name: str, change: Callable[[Tensor], Tensor], said: str
) -> None:
    key = NAMES[source](name)
    assert key is not None
    with pytest.raises(CheckpointFileError, match=said) as error:
        to_model(theirs | {key: change(theirs[key])}, published(source))
    assert "\n" not in str(error.value)


def test_names_are_shown_without_what_a_terminal_obeys(source: str, theirs: Tensors) -> None:
    with pytest.raises(CheckpointFileError, match=r"unknown   \\x1b\[2J\\n") as error:
        to_model(theirs | {"\x1b[2J\n" + "x" * 500: torch.zeros(1)}, published(source))
    assert "\x1b" not in str(error.value)
    assert "x" * 100 not in str(error.value)
