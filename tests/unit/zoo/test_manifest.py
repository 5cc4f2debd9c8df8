"""The manifest names what was published, with settings that the networks were tested with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pointrend.data.classes import ADE20K, CITYSCAPES, CITYSCAPES_THINGS, COCO
from pointrend.inputs import test_size as size_under_test
from pointrend.spec import InstanceSpec
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import network_of

NAMES = [
    "mmseg-r50-cityscapes",
    "mmseg-r101-cityscapes",
    "mmseg-r50-ade20k",
    "mmseg-r101-ade20k",
    "d2-semantic-r101-cityscapes",
]
INSTANCE_NAMES = {
    "d2-rcnn-r50-coco": "R_50_FPN_3x_coco/164955410/model_final_edd263.pkl",
    "d2-rcnn-r50-coco-1x": "R_50_FPN_1x_coco/164254221/model_final_736f5a.pkl",
    "d2-rcnn-r101-coco": "R_101_FPN_3x_coco/28119983/model_final_3f4d2a.pkl",
    "d2-rcnn-x101-coco": "X_101_32x8d_FPN_3x_coco/28119989/model_final_ba17b9.pkl",
    "d2-rcnn-r50-cityscapes": "R_50_FPN_1x_cityscapes/164255101/model_final_115bfb.pkl",
}


def test_all_are_named() -> None:
    names = [*NAMES, *INSTANCE_NAMES]
    assert sorted(PUBLISHED) == sorted(names)
    assert all(PUBLISHED[name].name == name for name in names)
    assert len({published.file for published in PUBLISHED.values()}) == len(names)  # they share a folder


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_a_checkpoint_is(name: str) -> None:
    published = PUBLISHED[name]
    spec = published.spec
    cityscapes = name.endswith("cityscapes")
    assert spec.classes == (CITYSCAPES if cityscapes else ADE20K)
    assert spec.num_logits == len(spec.classes)
    assert (spec.layout, spec.data) == (("cityscapes", "Cityscapes") if cityscapes else ("ade20k", "ADE20K"))
    assert (spec.test.shortest, spec.test.longest) == ((1024, 2048) if cityscapes else (512, 2048))
    assert spec.test.subdivision.steps == 2
    depth = "101" if "r101" in name else "50"
    if name.startswith("mmseg"):
        assert spec.architecture.backbone == f"resnet{depth}c"
        assert (spec.architecture.coarse_norm, spec.architecture.point.coarse_every_layer) == ("batch", True)
        assert (spec.input.channels, spec.input.mean[0], spec.input.std[0]) == ("rgb", 123.675, 58.395)
        assert not spec.input.antialias  # OpenCV's bilinear resizing
        assert (spec.test.subdivision.num_points, spec.test.pad_multiple) == (8196, 1)
        assert spec.licence == "Apache-2.0"
        assert f"_r{depth}_" in published.file
        assert published.file.endswith(f"-{published.sha256}.pth")
    else:
        assert spec.architecture.backbone == "resnet101"
        assert spec.architecture.stride_in_1x1
        assert (spec.architecture.coarse_norm, spec.architecture.point.coarse_every_layer) == ("group", False)
        assert (spec.input.channels, spec.input.mean, spec.input.std) == ("bgr", (103.53, 116.28, 123.675), (1, 1, 1))
        assert spec.input.antialias  # Pillow's
        assert (spec.test.subdivision.num_points, spec.test.pad_multiple) == (8192, 32)
        assert spec.licence == "CC-BY-SA-3.0"
        assert published.sha256 is None
        assert published.file == "model_final_cf6ac1.pkl"


@pytest.mark.parametrize("name", INSTANCE_NAMES)
def test_it_says_what_an_instance_checkpoint_is(name: str) -> None:
    published = PUBLISHED[name]
    spec = published.spec
    assert isinstance(spec, InstanceSpec)
    assert published.url.endswith(f"/PointRend/InstanceSegmentation/pointrend_rcnn_{INSTANCE_NAMES[name]}")
    assert published.sha256 is None
    cityscapes = name.endswith("cityscapes")
    assert spec.classes == (CITYSCAPES_THINGS if cityscapes else COCO)
    assert spec.layout == ("cityscapes-instances" if cityscapes else "coco")
    test, network = spec.test, spec.architecture
    assert (test.shortest, test.longest, test.pad_multiple) == (*((1024, 2048) if cityscapes else (800, 1333)), 32)
    detection, subdivision = test.detection, test.subdivision
    assert (detection.proposals_per_level, detection.max_proposals, detection.proposal_nms) == (1000, 1000, 0.7)
    assert (detection.score_threshold, detection.nms, detection.max_detections) == (0.05, 0.5, 100)
    assert (subdivision.start, subdivision.num_points, subdivision.steps, test.paste) == (28, 784, 3, "bilinear")
    assert network.anchor_sizes == ((32,), (64,), (128,), (256,), (512,))
    x101 = "x101" in name
    assert (spec.input.channels, spec.input.mean) == ("bgr", (103.53, 116.28, 123.675))
    assert spec.input.std == ((57.375, 57.12, 58.395) if x101 else (1, 1, 1))
    assert network.stride_in_1x1 is not x101
    assert network.backbone == ("resnext101_32x8d" if x101 else f"resnet{'101' if 'r101' in name else '50'}")
    assert next(iter(spec.scores)) == "mask_ap"


def test_scores_as_published() -> None:
    scores = {name: tuple(PUBLISHED[name].spec.scores.values()) for name in NAMES}
    assert scores == {
        "mmseg-r50-cityscapes": (76.47, 78.13),
        "mmseg-r101-cityscapes": (78.30, 79.97),
        "mmseg-r50-ade20k": (37.64, 39.17),
        "mmseg-r101-ade20k": (40.02, 41.60),
        "d2-semantic-r101-cityscapes": (78.9,),
    }
    assert all(next(iter(PUBLISHED[name].spec.scores)) == "miou" for name in NAMES)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("mmseg-r50-cityscapes", (1024, 2048), (1024, 2048)),
        ("mmseg-r50-cityscapes", (1080, 1920), (1024, 1820)),
        ("mmseg-r50-cityscapes", (500, 2000), (512, 2048)),  # 2048 is the limit
        ("mmseg-r50-ade20k", (683, 512), (683, 512)),
        ("mmseg-r50-ade20k", (256, 341), (512, 682)),
        ("d2-semantic-r101-cityscapes", (512, 1024), (1024, 2048)),
        ("d2-rcnn-r50-coco", (480, 640), (800, 1067)),
        ("d2-rcnn-r50-coco", (427, 1000), (569, 1333)),
        ("d2-rcnn-r50-cityscapes", (1024, 2048), (1024, 2048)),
    ],
)
def test_resize_rule(name: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_under_test(size, PUBLISHED[name].spec.test) == expected


@pytest.mark.parametrize("name", ["mmseg-r50-cityscapes", "d2-semantic-r101-cityscapes"])
def test_networks_can_be_built_and_weigh_what_is_said(name: str) -> None:
    """Frozen norms have no counter of batches, and detectron2 keeps the two input constants with the weights."""
    published = PUBLISHED[name]
    state = network_of(published.spec).state_dict()
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
