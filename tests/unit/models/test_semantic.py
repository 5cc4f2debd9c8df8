"""Semantic PointRend, joined from its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pointrend.core import (
    LABEL_SUBDIVISION,
    Sampling,
    Subdivision,
    labels_of,
    point_cross_entropy,
    regular_grid,
    sample_labels,
    semantic_cross_entropy,
    training_points,
)
from pointrend.models import (
    PointArchitecture,
    SemanticArchitecture,
    SemanticOutput,
    SemanticPointRend,
    semantic_pointrend,
)


def small(
    num_classes: int = 4, *, fine_strides: Sequence[int] = (4,), backbone: str = "test_resnet", norm: str = "batch"
) -> SemanticPointRend:
    """A network of few channels whose answers depend on its inputs, in evaluation mode."""
    torch.manual_seed(0)
    network = semantic_pointrend(
        num_classes,
        SemanticArchitecture(
            backbone=backbone,
            fpn_channels=16,
            coarse_channels=32,
            coarse_norm=norm,
            fine_strides=fine_strides,
            point=PointArchitecture(hidden=16),
        ),
    )
    nn.init.normal_(network.point_head.classifier.weight)
    nn.init.normal_(network.coarse_head.classifier.weight)
    return network.eval()


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def published() -> SemanticPointRend:
    return semantic_pointrend(num_classes=19)


def test_published_settings(published: SemanticPointRend) -> None:
    shapes = {key: tuple(value.shape) for key, value in published.state_dict().items()}

    def of(prefix: str, ndim: int) -> list[tuple[int, ...]]:
        return [s for key, s in shapes.items() if key.startswith(prefix) and key.endswith("weight") and len(s) == ndim]

    laterals = [(256, c, 1, 1) for c in (256, 512, 1024, 2048)]
    assert of("pyramid.", 4) == laterals + [(256, 256, 3, 3)] * 4
    block = (128, 128, 3, 3)
    first = (128, 256, 3, 3)
    assert of("coarse_head.", 4) == [first, first, first, block, first, block, block, (19, 128, 1, 1)]
    assert of("point_head.", 2) == [(256, 256 + 19)] * 3 + [(19, 256 + 19)]
    assert published.backbone.channels == (256, 512, 1024, 2048)
    assert published.padding == "zeros"


def test_published_defaults_of_rendering(published: SemanticPointRend) -> None:
    """Two steps of 8196 points."""
    output = SemanticOutput(coarse=images(1, 19, 64, 64), fine=(images(1, 256, 64, 64),))
    with torch.no_grad():
        steps = list(published.eval().subdivision_steps(output))
    assert [tuple(s.points.shape) for s in steps] == [(1, 8196, 2)] * 2
    assert steps[-1].logits.shape == (1, 19, 256, 256)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (65, 97), (33, 127)])
@pytest.mark.parametrize(
    ("num_classes", "fine_strides"), [(4, (4,)), (1, (4,)), (4, (4, 2)), (4, (16,)), (4, (16, 8, 4, 2)), (4, (2,))]
)
def test_sizes_of_what_comes_out(size: tuple[int, int], num_classes: int, fine_strides: tuple[int, ...]) -> None:
    network = small(num_classes, fine_strides=fine_strides)
    height, width = -(-size[0] // 4), -(-size[1] // 4)
    with torch.no_grad():
        output = network(images(2, 3, *size))
        assert output.coarse.shape == (2, num_classes, height, width)
        assert [tuple(f.shape[2:]) for f in output.fine] == [(-(-size[0] // s), -(-size[1] // s)) for s in fine_strides]
        for steps in (0, 1, 3):
            rendered = network.render(output, Subdivision(50, steps))
            assert rendered.shape == (2, num_classes, height * 2**steps, width * 2**steps)
        rendered = network.render(output, Subdivision(50, 2))
    assert rendered.isfinite().all()
    labels = labels_of(rendered, dim=1)
    assert labels.max() < max(2, num_classes)


@pytest.mark.parametrize("backbone", ["test_convnext", "tf_efficientnet_lite0"])
def test_other_backbones(backbone: str) -> None:
    network = small(backbone=backbone)
    with torch.no_grad():
        output = network(images(1, 3, 33, 65))
        assert network.render(output, Subdivision(20, 2)).shape == (1, 4, 36, 68)


def test_render_is_the_last_step() -> None:
    network = small()
    with torch.no_grad():
        output = network(images(1, 3, 64, 64))
        steps = list(network.subdivision_steps(output, Subdivision(33, 3)))
        assert torch.equal(network.render(output, Subdivision(33, 3)), steps[-1].logits)


@pytest.mark.parametrize("fine_strides", [(4,), (4, 2), (2, 4)])
def test_points_read_all_fine_maps_and_the_coarse_logits(fine_strides: tuple[int, ...]) -> None:
    network = small(fine_strides=fine_strides)
    assert network.point_head.layers[0].in_features == 16 + (32 if 2 in fine_strides else 0) + 4
    with torch.no_grad():
        output = network(images(1, 3, 64, 64))
    inputs = [output.coarse, *output.fine]
    for tensor in inputs:
        tensor.requires_grad_()
    network.point_logits(output, torch.rand(1, 9, 2)).sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in inputs)


def test_the_first_fine_map_is_the_pyramids() -> None:
    """The pyramid first, the backbone's own after: the order of the point head's weights."""
    network = small(fine_strides=(4, 2))
    with torch.no_grad():
        output = network(images(1, 3, 64, 64))
        early = network.backbone(images(1, 3, 64, 64))[0]
    assert output.fine[0].shape[1] == 16
    assert torch.equal(output.fine[1], early)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_a_training_step_reaches_every_parameter(num_classes: int) -> None:
    network = small(num_classes, fine_strides=(4, 2)).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # timm's zero at the end of a residual branch holds back what is before it
    output = network(images(2, 3, 65, 97))
    labels = torch.randint(max(2, num_classes), (2, 65, 97), generator=torch.Generator().manual_seed(0))
    labels[0] = 255  # one image of nothing
    points = training_points(output.coarse, Sampling(40), generator=torch.Generator().manual_seed(0))
    loss = point_cross_entropy(network.point_logits(output, points), sample_labels(labels, points))
    dense = torch.nn.functional.interpolate(output.coarse, size=(65, 97), mode="bilinear", align_corners=False)
    (loss + semantic_cross_entropy(dense, labels)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    untouched = {k for k, p in network.named_parameters() if p.grad is not None and not p.grad.any()}
    assert not untouched


def test_training_and_evaluation_return_one_type() -> None:
    network = small()
    batch = images(2, 3, 64, 64)
    for mode in (True, False):
        output = network.train(mode)(batch)
        assert type(output) is SemanticOutput
        assert isinstance(output.fine, tuple)
        assert output.coarse.shape == (2, 4, 16, 16)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_images_of_a_batch_do_not_influence_each_other(norm: str) -> None:
    network = small(fine_strides=(4, 2), norm=norm)
    batch = images(3, 3, 65, 64)
    with torch.no_grad():
        together = network(batch)
        for item in range(3):
            alone = network(batch[item : item + 1])
            torch.testing.assert_close(together.coarse[item], alone.coarse[0], atol=1e-4, rtol=1e-4)
            output = SemanticOutput(
                coarse=together.coarse[item : item + 1], fine=tuple(f[item : item + 1] for f in together.fine)
            )
            torch.testing.assert_close(
                network.render(together, Subdivision(100, 2))[item],
                network.render(output, Subdivision(100, 2))[0],
                atol=1e-4,
                rtol=1e-4,
            )


def test_a_full_budget_is_the_point_head_at_every_pixel() -> None:
    network = small()
    with torch.no_grad():
        output = network(images(2, 3, 33, 65))
        rendered = network.render(output, Subdivision(10**6, 2))
        dense = network.point_logits(output, regular_grid((36, 68), batch=2))
    torch.testing.assert_close(rendered, dense.transpose(1, 2).view(2, 4, 36, 68), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_autocast_runs_dense_and_rendering(num_classes: int) -> None:
    network = small(num_classes, fine_strides=(4, 2))
    batch = images(1, 3, 64, 64)
    with torch.no_grad():
        expected = network.render(network(batch), Subdivision(200, 2))
        with torch.autocast("cpu", torch.bfloat16):
            output = network(batch)
            rendered = network.render(output, Subdivision(200, 2))
            (step, *_) = network.subdivision_steps(output, Subdivision(200, 1))
    assert output.coarse.dtype == torch.bfloat16
    assert rendered.dtype == step.uncertainty.dtype == step.points.dtype == torch.float32
    # bfloat16 has 8 bits of mantissa: the answers differ a little, the picture does not.
    correlation = torch.corrcoef(torch.stack((rendered.flatten(), expected.flatten())))[0, 1]
    assert correlation > 0.99


def test_autocast_trains() -> None:
    network = small().train()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images(2, 3, 64, 64))
        points = training_points(output.coarse, Sampling(16))
        loss = point_cross_entropy(network.point_logits(output, points), torch.ones(2, 16, dtype=torch.int64))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_evaluation_is_reproducible_and_a_seed_gives_the_same_weights() -> None:
    first, second = small(), small()
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    with torch.no_grad():
        batch = images(1, 3, 64, 64)
        assert torch.equal(
            first.render(first(batch), replace(LABEL_SUBDIVISION, num_points=9)),
            second.render(second(batch), replace(LABEL_SUBDIVISION, num_points=9)),
        )


@pytest.mark.parametrize("fine_strides", [(), (3,), (4, 64)])
def test_fine_strides_out_of_range(fine_strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"fine_strides must be of 2, 4, 8, 16 and 32, got"):
        semantic_pointrend(3, SemanticArchitecture(backbone="test_resnet", fine_strides=fine_strides))


def test_no_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        semantic_pointrend(0, SemanticArchitecture(backbone="test_resnet"))


def test_a_backbone_without_the_early_stride() -> None:
    with pytest.raises(ValueError, match="test_convnext: its features have strides 4, 8, 16, 32, not 2, 4"):
        semantic_pointrend(3, SemanticArchitecture(backbone="test_convnext", fine_strides=(4, 2)))
