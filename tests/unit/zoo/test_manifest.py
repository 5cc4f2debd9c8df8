"""The manifest names what was published, with settings that the networks were tested with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pointrend.data.classes import ADE20K, CITYSCAPES
from pointrend.inputs import test_size as size_under_test
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import build

NAMES = [
    "mmseg-r50-cityscapes",
    "mmseg-r101-cityscapes",
    "mmseg-r50-ade20k",
    "mmseg-r101-ade20k",
    "d2-semantic-r101-cityscapes",
]


def test_all_are_named() -> None:
    assert sorted(PUBLISHED) == sorted(NAMES)
    assert all(PUBLISHED[name].name == name for name in NAMES)
    assert len({published.file for published in PUBLISHED.values()}) == len(NAMES)  # they share a folder


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_a_checkpoint_is(name: str) -> None:
    published = PUBLISHED[name]
    spec = published.spec
    cityscapes = name.endswith("cityscapes")
    assert spec.classes == (CITYSCAPES if cityscapes else ADE20K)
    assert spec.architecture.num_classes == len(spec.classes)
    assert (spec.layout, spec.data) == (("cityscapes", "Cityscapes") if cityscapes else ("ade20k", "ADE20K"))
    assert (spec.test.shortest, spec.test.longest) == ((1024, 2048) if cityscapes else (512, 2048))
    assert spec.test.steps == 2
    depth = "101" if "r101" in name else "50"
    if name.startswith("mmseg"):
        assert spec.architecture.backbone == f"resnet{depth}c"
        assert (spec.architecture.coarse_norm, spec.architecture.coarse_every_layer) == ("batch", True)
        assert (spec.input.channels, spec.input.mean[0], spec.input.std[0]) == ("rgb", 123.675, 58.395)
        assert (spec.test.num_points, spec.test.pad_multiple) == (8196, 1)
        assert spec.licence == "Apache-2.0"
        assert f"_r{depth}_" in published.file
        assert published.file.endswith(f"-{published.sha256}.pth")
    else:
        assert spec.architecture.backbone == "resnet101"
        assert spec.architecture.stride_in_1x1
        assert (spec.architecture.coarse_norm, spec.architecture.coarse_every_layer) == ("group", False)
        assert (spec.input.channels, spec.input.mean, spec.input.std) == ("bgr", (103.53, 116.28, 123.675), (1, 1, 1))
        assert (spec.test.num_points, spec.test.pad_multiple) == (8192, 32)
        assert spec.licence == "CC-BY-SA-3.0"
        assert published.sha256 is None
        assert published.file == "model_final_cf6ac1.pkl"


def test_scores_as_published() -> None:
    scores = {name: tuple(published.spec.scores.values()) for name, published in PUBLISHED.items()}
    assert scores == {
        "mmseg-r50-cityscapes": (76.47, 78.13),
        "mmseg-r101-cityscapes": (78.30, 79.97),
        "mmseg-r50-ade20k": (37.64, 39.17),
        "mmseg-r101-ade20k": (40.02, 41.60),
        "d2-semantic-r101-cityscapes": (78.9,),
    }
    assert all(next(iter(published.spec.scores)) == "miou" for published in PUBLISHED.values())


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("mmseg-r50-cityscapes", (1024, 2048), (1024, 2048)),
        ("mmseg-r50-cityscapes", (1080, 1920), (1024, 1820)),
        ("mmseg-r50-cityscapes", (500, 2000), (512, 2048)),  # 2048 is the limit
        ("mmseg-r50-ade20k", (683, 512), (683, 512)),
        ("mmseg-r50-ade20k", (256, 341), (512, 682)),
        ("d2-semantic-r101-cityscapes", (512, 1024), (1024, 2048)),
    ],
)
def test_resize_rule(name: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_under_test(size, PUBLISHED[name].spec.test) == expected


@pytest.mark.parametrize("name", ["mmseg-r50-cityscapes", "d2-semantic-r101-cityscapes"])
def test_networks_can_be_built_and_weigh_what_is_said(name: str) -> None:
    """Frozen norms have no counter of batches, and detectron2 keeps the two input constants with the weights."""
    published = PUBLISHED[name]
    state = build(published.spec).state_dict()
    frozen = published.source == "detectron2"
    own = sum(v.numel() * v.element_size() for k, v in state.items() if not (frozen and "num_batches" in k))
    assert own <= published.weight_bytes <= own * 1.02


@pytest.mark.parametrize(
    "change",
    [
        {"url": "file:///etc/passwd"},
        {"url": "https://example.org/folder/"},
        {"sha256": "BB1FF523"},
        {"sha256": "cf6ac1"},  # too short to say anything
        {"weight_bytes": 0},
        {"surprise": 1},
    ],
)
def test_wrong_entries_are_refused(change: dict[str, object]) -> None:
    fields = PUBLISHED["mmseg-r50-cityscapes"].model_dump(mode="python") | change
    with pytest.raises(ValidationError):
        Published.model_validate(fields)


def test_file_names_leave_out_what_follows_the_path() -> None:
    published = PUBLISHED["mmseg-r50-cityscapes"].model_copy(update={"url": "https://example.org/a/b.pth?token=c/d"})
    assert Path(published.file).name == published.file == "b.pth"
