"""Feature pyramids of timm's models."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import Tensor, nn

from pointrend.models import Backbone


def maps_of(backbone: Backbone, height: int, width: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return backbone.eval()(torch.randn(2, 3, height, width, generator=generator))


@pytest.mark.parametrize(
    ("name", "channels", "early"),
    [("resnet50c", (256, 512, 1024, 2048), 64), ("tf_efficientnet_lite0", (24, 40, 112, 320), 16)],
)
def test_the_published_and_the_small_one(name: str, channels: tuple[int, ...], early: int) -> None:
    backbone = Backbone(name, strides=(2, 4, 8, 16, 32))
    assert backbone.channels == (early, *channels)
    expected = [(2, c, -(-33 // s), -(-65 // s)) for c, s in zip(backbone.channels, (2, 4, 8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps_of(backbone, 33, 65)] == expected


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (65, 97), (33, 127)])
def test_sizes_are_rounded_up(name: str, size: tuple[int, int]) -> None:
    backbone = Backbone(name)
    maps = maps_of(backbone, *size)
    assert [tuple(m.shape[2:]) for m in maps] == [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    assert tuple(m.shape[1] for m in maps) == backbone.channels


def test_a_convolutional_model_is_timms_own() -> None:
    """Nothing is padded or cropped where timm's maps are right: published weights see what they were trained on."""
    torch.manual_seed(3)
    backbone = Backbone("test_resnet").eval()
    torch.manual_seed(3)
    model = timm.create_model("test_resnet", features_only=True, out_indices=(1, 2, 3, 4)).eval()
    images = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images), model(images), strict=True):
            assert torch.equal(ours, theirs)
    assert list(backbone.state_dict()) == [f"model.{key}" for key in model.state_dict()]


@pytest.fixture(scope="module")
def swin() -> Backbone:
    return Backbone("swin_tiny_patch4_window7_224").eval()


@pytest.mark.parametrize("size", [(32, 32), (33, 65)])
def test_channels_last_features_are_permuted_at_any_size(swin: Backbone, size: tuple[int, int]) -> None:
    assert swin.channels == (96, 192, 384, 768)
    maps = maps_of(swin, *size)
    expected = [(2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(swin.channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps] == expected


def test_permuted_features_are_the_same_numbers(swin: Backbone) -> None:
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        for ours, theirs in zip(swin(images), swin.model(images), strict=True):
            assert torch.equal(ours, theirs.permute(0, 3, 1, 2))


def test_a_model_without_the_strides_is_refused_by_name() -> None:
    message = r"vit_tiny_patch16_224: its features have strides 16, 16, 16, not 4, 8, 16, 32; take .* resnet50c"
    with pytest.raises(ValueError, match=message):
        Backbone("vit_tiny_patch16_224")


def test_a_stride_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="test_convnext: its features have strides 4, 8, 16, 32, not 2, 4, 8, 16, 32"):
        Backbone("test_convnext", strides=(2, 4, 8, 16, 32))


def test_a_model_of_one_input_size_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"hiera_tiny_224: it does not take inputs of any size \(64 x 96: .*\); take"):
        Backbone("hiera_tiny_224")


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(ValueError, match=r"resnet50q: timm \S+ has no backbone of this name; .* names are .*resnet50"):
        Backbone("resnet50q")


def test_a_name_like_no_other_gets_no_advice() -> None:
    with pytest.raises(ValueError, match=r"has no backbone of this name$"):
        Backbone("0000000000")


class Pools(nn.Module):
    """Maps at given strides, each telling its number in its first channel."""

    def __init__(self, reductions: tuple[int, ...], out_indices: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.reductions, self.out_indices = reductions, out_indices

    @property
    def feature_info(self) -> SimpleNamespace:
        taken = [self.reductions[i] for i in self.out_indices]
        return SimpleNamespace(reduction=lambda: taken, channels=lambda: [1] * len(taken), out_indices=self.out_indices)

    def forward(self, images: Tensor) -> list[Tensor]:
        sizes = [tuple(-(-side // self.reductions[i]) for side in images.shape[2:]) for i in self.out_indices]
        return [torch.full((len(images), 1, *s), float(i)) for i, s in zip(self.out_indices, sizes, strict=True)]


def fake_timm(monkeypatch: pytest.MonkeyPatch, reductions: tuple[int, ...]) -> None:
    def create(
        name: str,
        *,
        features_only: bool,
        pretrained: bool,
        out_indices: tuple[int, ...] = tuple(range(len(reductions))),
    ) -> nn.Module:
        return Pools(reductions, out_indices)

    monkeypatch.setattr(timm, "is_model", lambda name: True)
    monkeypatch.setattr(timm, "create_model", create)


def test_of_a_stride_that_occurs_twice_the_deeper_map_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm(monkeypatch, (2, 4, 4, 8, 16, 16, 32))
    maps = maps_of(Backbone("stem-and-stage"), 33, 40)
    assert [m.flatten()[0].item() for m in maps] == [2, 3, 5, 6]


def test_maps_that_lie_nowhere_near_their_strides_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_timm(monkeypatch, (4, 8, 16, 32))
    monkeypatch.setattr(Pools, "forward", lambda self, images: [torch.zeros(1, 1, 3, 3)] * 4)
    with pytest.raises(
        ValueError, match=r"odd: it does not take inputs of any size \(64 x 96 gives maps of \[\(3, 3\)"
    ):
        Backbone("odd")


@pytest.fixture
def not_on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """timm as in versions that compute with values while they build."""
    create = timm.create_model

    def creates_with_values(name: str, **options: object) -> nn.Module:
        torch.linspace(0, 1, 3)[1].item()
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", creates_with_values)
    return


@pytest.mark.usefixtures("not_on_meta")
def test_a_model_that_cannot_be_built_without_values() -> None:
    with torch.device("meta"), pytest.raises(RuntimeError):
        timm.create_model("test_resnet")
    torch.manual_seed(0)
    weights = Backbone("test_resnet").state_dict()
    torch.manual_seed(0)
    expected = timm.create_model("test_resnet", features_only=True, out_indices=(1, 2, 3, 4)).state_dict()
    assert all(torch.equal(value, weights[f"model.{key}"]) for key, value in expected.items())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_looking_at_a_model_draws_no_random_numbers_and_leaves_it_in_training(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    model = timm.create_model(name, features_only=True, out_indices=backbone.model.feature_info.out_indices)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(m.training for m in backbone.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(backbone.state_dict()[f"model.{key}"], value), key


def test_gradients_flow_through_padding_and_crop() -> None:
    images = torch.randn(1, 3, 33, 35, requires_grad=True)
    sum(m.sum() for m in Backbone("test_convnext")(images)).backward()  # type: ignore[union-attr]
    assert images.grad is not None
    assert images.grad[..., -1].abs().sum() > 0  # a stem that rounds down would not see the last column
    assert images.grad[..., -1, :].abs().sum() > 0
