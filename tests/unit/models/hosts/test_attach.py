"""Networks of one's own: what a dry run finds, what is proved, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import pointrend
from pointrend.core import regular_grid
from pointrend.errors import PointRendError
from pointrend.models import MaskArchitecture
from pointrend.models.hosts.geometry import Geometry, read_coarse, start_grid, upsampled
from pointrend.models.hosts.outputs import logits_of
from pointrend.predict import PredictOptions
from pointrend.zoo import Model


class Own(nn.Module):
    """Logits at stride 8, upsampled to the input; `form` wraps the output."""

    def __init__(
        self, classes: int = 4, *, corners: bool = False, form: Callable[[Tensor], Any] = lambda logits: logits
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.middle = nn.Conv2d(8, 12, 3, 2, 1)
        self.deep = nn.Conv2d(12, 16, 3, 2, 1)
        self.head = nn.Conv2d(16, classes, 1)
        self.corners, self.form = corners, form

    def forward(self, images: Tensor) -> Any:
        logits = self.head(self.deep(self.middle(self.stem(images).relu()).relu()).relu())
        return self.form(F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=self.corners))


def layout_of(model: Model) -> Any:
    return model.spec.architecture.host


@pytest.mark.parametrize("corners", [False, True])
def test_logits_geometry_and_fine_maps_are_found(corners: bool) -> None:
    layout = layout_of(pointrend.attach(Own(corners=corners)))
    assert layout.coarse == "head"
    assert layout.geometry == ("corners" if corners else "centers")
    assert layout.stride == 8
    assert layout.fine == ("middle", "stem")
    assert layout.fine_channels == (12, 8)
    assert not layout.stem
    assert layout.multiple == 1


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("classes", [4, 1])
def test_the_coarse_row_is_the_hosts_own_prediction(corners: bool, classes: int) -> None:
    torch.manual_seed(0)
    host = Own(classes, corners=corners).eval()
    model = pointrend.attach(host).eval()
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = model.predictor(PredictOptions(size=64)).compare(image)["coarse"].labels
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    spec = model.spec.input
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    with torch.no_grad():
        logits = host((pixels - mean) / std)
    expected = logits.argmax(1)[0] if classes > 1 else (logits[0, 0] > 0).long()
    assert (found != expected.numpy()).mean() < 1e-3  # where logits tie up to rounding


@dataclass
class Output:
    aux: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    "form",
    [
        lambda logits: {"out": logits, "aux": logits * 2},
        lambda logits: (logits, {"more": 1}),
        lambda logits: Output(aux=logits * 2, logits=logits),
    ],
)
def test_dicts_tuples_and_dataclasses(form: Callable[[Tensor], Any]) -> None:
    assert layout_of(pointrend.attach(Own(form=form))).coarse == "head"
    assert torch.equal(logits_of(form(torch.ones(1, 4, 2, 2)), 4), torch.ones(1, 4, 2, 2))


def test_an_auxiliary_output_is_traced_to_its_module() -> None:
    class Deep(Own):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(12, 4, 1)

        def forward(self, images: Tensor) -> Any:
            middle = self.middle(self.stem(images).relu()).relu()
            maps = {"out": self.head(self.deep(middle).relu()), "aux": self.second(middle)}
            return {name: F.interpolate(found, images.shape[2:], mode="bilinear") for name, found in maps.items()}

    layout = layout_of(pointrend.attach(Deep()))
    assert (layout.coarse, layout.auxiliary) == ("head", ("second",))
    assert layout_of(pointrend.attach(Own())).auxiliary == ()


def test_probabilities_become_logits_again() -> None:
    class Likely(Own):
        def forward(self, images: Tensor) -> Tensor:
            logits = self.head(self.deep(self.middle(self.stem(images).relu()).relu()).relu())
            return F.interpolate(logits.softmax(1), images.shape[2:], mode="bilinear")

    host = Likely().eval()
    model = pointrend.attach(host.forward, pool=8, probabilities=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        output = model.network.eval()(images)
        expected = F.avg_pool2d(host(images), 8)
    assert torch.allclose(output.coarse.softmax(1), expected / expected.sum(1, keepdim=True), atol=1e-5)


def test_a_black_box_reads_a_stem() -> None:
    host = Own()
    model = pointrend.attach(host.forward, pool=4)
    layout = layout_of(model)
    assert (layout.stem, layout.fine, layout.stride, layout.frozen) == (True, (), 4, True)
    assert {name.split(".")[0] for name, _ in model.network.named_parameters()} == {"stem", "point_head"}


def test_a_file_of_a_black_box_takes_the_function(tmp_path: Path) -> None:
    host = Own().eval()
    model = pointrend.attach(host.forward, pool=4).eval()
    pointrend.save_model(model, tmp_path / "box.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    again = pointrend.load_model(tmp_path / "box.safetensors", host=host.forward)
    assert np.array_equal(again.predict(image, size=64).labels, model.predict(image, size=64).labels)


def test_a_host_of_one_size_sees_stretched_images() -> None:
    class Fixed(Own):
        def forward(self, images: Tensor) -> Any:
            if images.shape[2:] != (64, 64):
                raise RuntimeError(f"expected 64 x 64, got {tuple(images.shape[2:])}")
            return super().forward(images)

    with pytest.raises(PointRendError, match=r"expected 64 x 64.*or size= if it takes one size alone"):
        pointrend.attach(Fixed())
    model = pointrend.attach(Fixed(), size=(64, 64))
    labels = model.predict(np.zeros((50, 120, 3), np.uint8), size=64).labels
    assert labels.shape == (50, 120)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fine": ["middel"]}, r"'middel' is no module of the host; the nearest are middle \(12 channels, stride 4\)"),
        ({"coarse": "nowhere"}, "'nowhere' is no module of the host"),
        ({"classes": ["a", "b"]}, "2 names of classes, but the host gives 4 logits"),
        ({"num_classes": 7}, r"the host gives no logits of 7 classes, but the output \(1, 4, 128, 192\)"),
        ({"arguments": {"depth": 3}}, "arguments are for hosts given by name"),
        ({"architecture": MaskArchitecture()}, "must be a PointArchitecture, got MaskArchitecture"),
    ],
)
def test_what_does_not_fit_is_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        pointrend.attach(Own(), **settings)


def test_a_host_with_sharp_logits_gains_nothing() -> None:
    with pytest.raises(PointRendError, match="nothing can be gained: the host's logits have stride 1 already"):
        pointrend.attach(nn.Conv2d(3, 4, 1))


def test_logits_that_the_output_is_not_made_of_are_an_error() -> None:
    class Odd(Own):
        def forward(self, images: Tensor) -> Any:
            logits = self.head(self.deep(self.middle(self.stem(images).relu()).relu()).relu())
            return F.interpolate(logits, images.shape[2:], mode="nearest")

    with pytest.raises(PointRendError, match=r"the logits of head \(4 channels, stride 8\) do not reproduce"):
        pointrend.attach(Odd(), coarse="head")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mmseg.FPN", "there is no family 'mmseg' of hosts; expected one of torchvision, smp, transformers, timm"),
        ("torchvision.unet", "torchvision has no network 'unet'; expected one of deeplabv3_resnet50"),
        ("timm.linear", "timm.linear cannot be built with .*: the argument model must name a backbone of timm"),
    ],
)
def test_hosts_by_name_that_are_not_there(name: str, said: str) -> None:
    with pytest.raises(PointRendError, match=said):
        pointrend.attach(name, num_classes=3)
    with pytest.raises(PointRendError, match="is built with new weights: give num_classes"):
        pointrend.attach("torchvision.fcn_resnet50")


def test_a_file_of_an_own_network_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    torch.manual_seed(0)
    model = pointrend.attach(Own()).eval()
    pointrend.save_model(model, path)
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    again = pointrend.load_model(path, host=Own())
    assert np.array_equal(again.predict(image, size=64).labels, model.predict(image, size=64).labels)
    with pytest.raises(PointRendError, match=r"of its user's own: give it, load_model\(path, host=network\)"):
        pointrend.load_model(path)
    with pytest.raises(PointRendError, match="do not fit the architecture it names: backbone"):
        pointrend.load_model(path, host=Own(5))


SIZES = st.tuples(st.integers(2, 9), st.integers(2, 9))


@given(SIZES, st.tuples(st.integers(10, 40), st.integers(10, 40)), st.sampled_from(["centers", "corners"]))
def test_points_at_pixels_are_the_upsampled_logits(
    grid: tuple[int, int], size: tuple[int, int], geometry: Geometry
) -> None:
    coarse = torch.randn(1, 2, *grid, generator=torch.Generator().manual_seed(0))
    points = regular_grid(size)
    found = read_coarse(coarse, points, size, geometry, padding="border")
    expected = upsampled(coarse, size, geometry).flatten(2).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-4)
    start = start_grid(coarse, size, geometry)
    assert start.shape == coarse.shape
    if geometry == "centers":
        assert torch.equal(start, coarse)


def test_the_wrong_geometry_is_far_off() -> None:
    """What the proof is for: read as the other kind, logits of a ramp differ by up to half a cell."""
    coarse = torch.arange(8.0).expand(1, 1, 8, 8)
    centers, corners = (upsampled(coarse, (64, 64), kind) for kind in ("centers", "corners"))
    assert 0.3 < float((centers - corners).abs().max()) < 0.5
