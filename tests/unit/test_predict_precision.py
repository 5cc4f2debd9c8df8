"""Prediction where numbers run out: weights of other precisions, and networks whose logits are not finite."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pointrend.cli import main
from pointrend.core import Subdivision
from pointrend.data.classes import ClassInfo
from pointrend.models import InstanceArchitecture, MaskArchitecture, PointArchitecture
from pointrend.models.folding import prepared
from pointrend.models.settings import Detection
from pointrend.spec import InstanceSpec, InstanceTest
from pointrend.zoo import Model
from pointrend.zoo.modelfile import network_of

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def instance_model() -> Model:
    """A small instance model that finds something everywhere."""
    torch.manual_seed(0)
    mask = MaskArchitecture(channels=16, hidden=16, point=PointArchitecture(hidden=16, depth=1))
    spec = InstanceSpec(
        name="tiny",
        num_logits=2,
        architecture=InstanceArchitecture(backbone="test_resnet", fpn_channels=16, box_hidden=16, mask=mask),
        classes=(ClassInfo("cat", (255, 0, 0)), ClassInfo("dog", (0, 255, 0))),
        test=InstanceTest(
            shortest=64,
            longest=128,
            detection=Detection(score_threshold=0.0, max_detections=5),
            subdivision=Subdivision(49, 1, start=14),
        ),
    )
    return Model(network_of(spec), spec).eval()


def of_kind(kind: str, semantic: Model, instance: Model) -> Model:
    return copy.deepcopy(semantic if kind == "semantic" else instance)


@pytest.mark.parametrize("kind", ["semantic", "instance"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(small_model: Model, instance_model: Model, kind: str, dtype: torch.dtype) -> None:
    model = of_kind(kind, small_model, instance_model).to(dtype)
    options = {} if kind == "semantic" else {"score_threshold": 0.0}
    expected = of_kind(kind, small_model, instance_model)
    if dtype.itemsize < 4:  # on a CPU, the weights are of this precision, and what is computed with them is not
        expected = expected.to(dtype).float()
    for reference in (False, True):
        found = model.predict(PIXELS, reference=reference, **options)
        wanted = expected.predict(PIXELS, reference=reference, **options)
        if kind == "semantic":
            assert (found.labels == wanted.labels).mean() > 0.999
        else:
            assert len(found) == len(wanted) > 0
            assert np.allclose(found.boxes, wanted.boxes, atol=0.01)
            assert np.array_equal(found.masks[0], wanted.masks[0])
    assert next(model.parameters()).dtype == dtype


def test_the_encoder_alone_keeps_its_precision(small_model: Model) -> None:
    network = prepared(copy.deepcopy(small_model.network).double())
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    asked = []
    network.__dict__["maps"] = lambda images, compute=network.maps: asked.append(images.dtype) or compute(images)
    output = network(torch.zeros(1, 3, 64, 64))
    assert asked == [torch.float32]
    assert {output.coarse.dtype, *(f.dtype for f in output.fine)} == {torch.float32}
    of_float32 = prepared(small_model.network)
    assert isinstance(of_float32.get_parameter("coarse_head.classifier.weight"), torch.Tensor)


DAMAGED = {
    "semantic": ["coarse_head.classifier.bias", "point_head.classifier.bias", "backbone.model.conv_stem.weight"],
    "instance": ["rpn.head.cls_logits.bias", "box_predictor.cls_score.bias", "mask_head.coarse_head.classifier.bias",
                 "mask_head.point_head.classifier.bias", "backbone.model.conv1.weight"],
}  # fmt: skip


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in DAMAGED.items() for name in names])
def test_damaged_weights_do_not_predict(
    small_model: Model, instance_model: Model, kind: str, name: str, reference: bool
) -> None:
    model = of_kind(kind, small_model, instance_model)
    named = dict(model.network.named_parameters())
    name = name if name in named else next(n for n in named if n.startswith("backbone") and "conv1" in n)
    with torch.no_grad():
        named[name].view(-1)[0] = torch.nan
    options = {} if kind == "semantic" else {"score_threshold": 0.0}
    with pytest.raises(ValueError, match=r"logits.* must be finite, got nan") as caught:
        model.predict(PIXELS, reference=reference, **options)
    assert "\n" not in str(caught.value)


def test_the_command_says_it_in_one_line(
    color_model: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    from pointrend.cli import options

    model = color_model()
    with torch.no_grad():
        model.network.gain.fill_(torch.nan)
    monkeypatch.setattr(options, "load_or_exit", lambda *args, **kwargs: model)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip()
    assert "a.png: coarse logits must be finite, got nan" in said
    assert "Traceback" not in said
