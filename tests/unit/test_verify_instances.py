"""References of instance models: a model agrees with itself, and with nothing that was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pointrend.data.classes import ClassInfo
from pointrend.inputs import network_input
from pointrend.models import Detection, InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.references import InstanceReference, ReferenceFileError, reference_image
from pointrend.spec import InstanceSpec, InstanceTest
from pointrend.verify import read_reference, verify
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

SPEC = InstanceSpec(
    name="small",
    num_logits=3,
    architecture=InstanceArchitecture(
        backbone="tf_efficientnet_lite0", fpn_channels=16, box_hidden=16,
        mask=MaskArchitecture(channels=8, hidden=16, point=PointArchitecture(hidden=8)),
    ),
    classes=tuple(ClassInfo(n, (i, i, i)) for i, n in enumerate("abc")),
    test=InstanceTest(),
)  # fmt: skip
NUMBERS = {"height": 70, "width": 101, "seed": 3}


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    network = network_of(SPEC)
    for layer in (
        network.rpn.head.cls_logits,
        network.box_predictor.cls_score,
        network.mask_head.coarse_head.classifier,
    ):
        torch.nn.init.normal_(layer.weight, std=0.3)  # as if it had been trained: scores that differ
    return Model(network, SPEC).eval()


@torch.inference_mode()
def arrays(model: Model) -> dict[str, np.ndarray]:
    """A reference that the model itself computes, by its parts."""
    network = model.network
    sides = {"scale": 1.0, "longest": 101}
    images, frame = network_input(reference_image(**NUMBERS), input=SPEC.input, test=SPEC.test.model_copy(update=sides))
    output = network(images, [frame.valid], Detection(score_threshold=0.02, max_detections=30))
    features = output.features
    raw = network.rpn.raw(features.pyramid)
    (proposals,) = network.rpn.proposals(raw, features.valid, per_level=1000, total=1000, nms=0.7)
    boxes = torch.tensor([[0.0, 0.0, 40.0, 30.0], [60.0, 20.0, 101.0, 70.0], [50.0, 5.0, 53.0, 60.0]])
    classes = torch.tensor([0, 2, 1])
    regions = network.boxes(features, [boxes])
    stages = network.mask_head.render(features.fine, [boxes], classes, features.size)
    (found,) = output.detections
    tensors = {
        "p2": features.pyramid[0][0, :8], "rpn_objectness_p4": raw.objectness[2][0], "rpn_deltas_p4": raw.deltas[2][0],
        "proposals": proposals.boxes[:200], "proposal_logits": proposals.logits[:200], "boxes": boxes,
        "classes": classes, "class_logits": regions.class_logits.roll(-1, dims=1), "box_deltas": regions.deltas[:, 4:],
        "coarse_masks": stages[0][:, 0], "mask_probs": stages[-1][:, 0].sigmoid(), "det_boxes": found.boxes,
        "det_scores": found.scores, "det_classes": found.classes,
    }  # fmt: skip
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def own(model: Model) -> dict[str, np.ndarray]:
    return arrays(model)


def read(path: Path, own: dict[str, np.ndarray], **changes: Any) -> InstanceReference:
    np.savez(path, **{k: v for k, v in (NUMBERS | own | changes).items() if v is not None})
    found = read_reference(path)
    assert isinstance(found, InstanceReference)
    return found


def failing(model: Model, reference: InstanceReference) -> set[str]:
    return {check.name for check in verify(model, reference) if not check.ok}


def test_a_model_agrees_with_itself_and_with_no_other(model: Model, own: Any, tmp_path: Path) -> None:
    reference = read(tmp_path / "r.npz", own)
    checks = verify(model, reference)
    assert [c.name for c in checks] == [
        "p2", "rpn_objectness_p4", "rpn_deltas_p4", "proposals", "class_logits", "box_deltas", "coarse_masks",
        "mask_probs", "detections",
    ]  # fmt: skip
    assert all(c.ok for c in checks), checks
    torch.manual_seed(1)
    other = Model(network_of(SPEC), SPEC).eval()
    assert {"p2", "rpn_objectness_p4", "class_logits", "coarse_masks"} <= failing(other, reference)


def test_boxes_match_in_any_order(model: Model, own: Any, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(len(own["det_boxes"]))
    shuffled = {name: own[name][order] for name in ("det_boxes", "det_scores", "det_classes")}
    shuffled["proposals"] = own["proposals"][::-1].copy()
    assert failing(model, read(tmp_path / "r.npz", own, **shuffled)) == set()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: {"det_scores": a["det_scores"] + 0.01}, "detections"),
        (lambda a: {"det_classes": (a["det_classes"] + 1) % 3}, "detections"),
        (lambda a: {"det_boxes": a["det_boxes"] + 40}, "detections"),
        (
            lambda a: {"proposals": np.repeat(a["proposals"][:1], 20, axis=0), "proposal_logits": np.ones(20)},
            "proposals",
        ),
        (lambda a: {"mask_probs": np.where(np.arange(224) < 3, 1 - a["mask_probs"], a["mask_probs"])}, "mask_probs"),
        (lambda a: {"class_logits": np.roll(a["class_logits"], 1, axis=1)}, "class_logits"),
        (lambda a: {"p2": a["p2"] * 1.001}, "p2"),
    ],
)
def test_what_was_changed_fails_and_nothing_else(
    model: Model, own: Any, tmp_path: Path, change: Any, expected: str
) -> None:
    assert failing(model, read(tmp_path / "r.npz", own, **change(own))) == {expected}


def test_a_few_pixels_of_masks_may_differ(model: Model, own: Any, tmp_path: Path) -> None:
    probs = own["mask_probs"].copy()
    some = int(0.004 * probs.size)
    probs.reshape(-1)[:some] = 1 - probs.reshape(-1)[:some] + 0.3
    assert failing(model, read(tmp_path / "r.npz", own, mask_probs=probs)) == set()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": None}, "'seed'"),
        ({"det_boxes": None}, "'det_boxes'"),
        ({"extra": np.zeros(3)}, "'extra' is unknown"),
        ({"boxes": np.zeros((2, 4))}, "must be"),
        ({"classes": np.zeros(3)}, "finite numbers"),
        ({"p2": np.full((8, 20, 32), np.nan)}, "finite"),
        ({"height": 0}, "out of range"),
        ({"width": 1.5}, "whole numbers"),
    ],
)
def test_what_is_no_reference(own: Any, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ReferenceFileError, match=said):
        read(tmp_path / "r.npz", own, **changes)


def test_references_of_another_model(model: Model, own: Any, tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match="of another model"):
        verify(model, read(tmp_path / "r.npz", own, classes=np.array([0, 1, 3])))
    with pytest.raises(ReferenceFileError, match="of another model"):
        verify(model, read(tmp_path / "r.npz", own, class_logits=np.zeros((3, 9)), box_deltas=np.zeros((3, 32))))
