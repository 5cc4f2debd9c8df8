"""What is taken of other weights: whole tensors, and classes by their names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pointrend.models import PointArchitecture, PointHead
from pointrend.training.taking import TakenPart, take_weights


class Net(nn.Module):
    """The layers of a network that know classes, and one that does not."""

    def __init__(self, classes: int, width: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, width, 1)
        self.coarse_head = nn.ModuleDict({"classifier": nn.Conv2d(width, classes, 1)})
        architecture = PointArchitecture(hidden=5, depth=2)
        self.point_head = PointHead(in_channels=4, num_classes=classes, architecture=architecture)


def pair(own: int, given: int) -> tuple[Net, dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    network, other = Net(own), Net(given)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return network, before, other.state_dict()


def test_classes_are_found_by_their_names() -> None:
    network, before, given = pair(3, 4)
    rows = take_weights(network, given, ["Cat", "new", "sky"], ["sky", "dog", "cat", "road"], (3, 4))
    now = network.state_dict()
    assert torch.equal(now["backbone.weight"], given["backbone.weight"])
    for kind in ("weight", "bias"):
        coarse = f"coarse_head.classifier.{kind}"
        assert torch.equal(now[coarse][0], given[coarse][2])
        assert torch.equal(now[coarse][1], before[coarse][1])
        assert torch.equal(now[coarse][2], given[coarse][0])
    first, of_first = now["point_head.layers.0.weight"], given["point_head.layers.0.weight"]
    assert torch.equal(first[:, :4], of_first[:, :4])  # the fine features
    assert torch.equal(first[:, 4], of_first[:, 6])
    assert not first[:, 5].any()  # the coarse logit of a class that is new
    assert torch.equal(first[:, 6], of_first[:, 4])
    last, of_last = now["point_head.classifier.weight"], given["point_head.classifier.weight"]
    assert torch.equal(last[0, :5], of_last[2, :5])
    assert torch.equal(last[0, 5:], torch.stack((of_last[2, 7], torch.tensor(0.0), of_last[2, 5])))
    assert torch.equal(last[1], before["point_head.classifier.weight"][1])
    assert rows == [
        TakenPart("backbone", 2, 0, 0, ""),
        TakenPart("coarse_head", 0, 2, 0, ""),
        TakenPart("point_head", 2, 4, 0, ""),
    ]


def test_the_same_classes_in_another_order_are_reordered() -> None:
    network, _, given = pair(3, 3)
    take_weights(network, given, ["a", "b", "c"], ["c", "a", "b"], (3, 3))
    fine, coarse = torch.randn(1, 7, 4), torch.randn(1, 7, 3)
    other = Net(3)
    other.load_state_dict(given)
    torch.testing.assert_close(
        network.point_head(fine, coarse), other.point_head(fine, coarse[..., [2, 0, 1]])[..., [1, 2, 0]]
    )


def test_equal_classes_are_taken_whole() -> None:
    network, _, given = pair(3, 3)
    rows = take_weights(network, given, ["a", "b", "c"], ["a", "b", "c"], (3, 3))
    assert all(torch.equal(tensor, given[name]) for name, tensor in network.state_dict().items())
    assert [(row.by_class, row.new) for row in rows] == [(0, 0)] * 3


def test_without_common_names_classifiers_stay_new_and_the_head_keeps_its_features() -> None:
    network, before, given = pair(3, 4)
    rows = take_weights(network, given, ["x", "y", "z"], ["a", "b", "c", "d"], (3, 4))
    now = network.state_dict()
    for name in ("coarse_head.classifier.weight", "point_head.classifier.weight"):
        assert torch.equal(now[name], before[name])
    assert torch.equal(now["point_head.layers.1.weight"][:, :5], given["point_head.layers.1.weight"][:, :5])
    assert not now["point_head.layers.1.weight"][:, 5:].any()
    assert [(row.part, row.new, row.why) for row in rows if row.new] == [
        ("coarse_head", 2, "no class has the name"),
        ("point_head", 2, "no class has the name"),
    ]


def test_other_widths_and_missing_tensors_are_said() -> None:
    network, before, _ = pair(2, 2)
    given = Net(2, width=6).state_dict()
    del given["point_head.layers.0.bias"]
    rows = take_weights(network, given, ["a", "b"], ["a", "b"], (2, 2))
    assert {row.part: (row.new, row.why) for row in rows} == {
        "backbone": (2, "6x3x1x1 is not 3x3x1x1"),
        "coarse_head": (1, "2x6x1x1 is not 2x3x1x1"),
        "point_head": (1, "it has no such tensor"),
    }
    assert torch.equal(network.state_dict()["backbone.weight"], before["backbone.weight"])


@pytest.mark.parametrize("kind", ["cls_score", "bbox_pred"])
def test_the_rows_of_detections_begin_with_the_background(kind: str) -> None:
    per = {"cls_score": 1, "bbox_pred": 4}[kind]
    network, other = nn.Module(), nn.Module()
    for module, classes in ((network, 2), (other, 3)):
        module.box_predictor = nn.ModuleDict({kind: nn.Linear(6, per * (classes + 1))})
    before = network.state_dict()[f"box_predictor.{kind}.weight"].clone()
    given = other.state_dict()
    take_weights(network, given, ["new", "b"], ["a", "b", "c"], (2, 3))
    now, of = network.state_dict()[f"box_predictor.{kind}.weight"], given[f"box_predictor.{kind}.weight"]
    assert torch.equal(now[:per], of[:per])
    assert torch.equal(now[per : 2 * per], before[per : 2 * per])
    assert torch.equal(now[2 * per :], of[2 * per : 3 * per])
