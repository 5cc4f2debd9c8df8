from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pointrend.core import LossWeights, Sampling, sample_labels, training_points
from pointrend.data import SemanticBatch
from pointrend.errors import PointRendError
from pointrend.models import PointArchitecture, SemanticArchitecture, semantic_pointrend
from pointrend.models.semantic_network import SemanticOutput
from pointrend.objectives import SemanticLoss
from pointrend.objectives.mining import HardPixels
from pointrend.objectives.regions import dice_loss, lovasz_loss
from pointrend.objectives.semantic import SemanticObjective


def objective(num_classes: int = 3, weights: LossWeights = LossWeights()) -> SemanticObjective:
    torch.manual_seed(0)
    network = semantic_pointrend(
        num_classes,
        SemanticArchitecture(
            backbone="test_efficientnet", fpn_channels=8, coarse_channels=8, point=PointArchitecture(hidden=8)
        ),
    )
    return SemanticObjective(network, SemanticLoss(sampling=Sampling(32), weights=weights))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 64, 48, generator=generator)
    return images, torch.randint(0, 3, (2, 64, 48), generator=generator)


def test_losses_are_those_of_the_paper_written_out() -> None:
    module, (images, labels) = objective().eval(), batch()
    losses = module(SemanticBatch(images, labels), 7)
    output = module.network(images)
    dense = F.interpolate(output.coarse, size=(64, 48), mode="bilinear", align_corners=False)
    assert losses.coarse == pytest.approx(F.cross_entropy(dense, labels).item(), rel=1e-5)
    points = training_points(output.coarse, Sampling(32), generator=torch.Generator().manual_seed(7))
    logits = module.network.point_logits(output, points)
    at_points = F.cross_entropy(logits.flatten(0, 1), sample_labels(labels, points).flatten())
    assert losses.points == pytest.approx(at_points.item(), rel=1e-5)
    assert losses.total.item() == pytest.approx(losses.coarse.item() + losses.points.item(), rel=1e-5)
    assert 0 <= losses.accuracy <= 1


def test_losses_can_be_averaged_over_ignored_pixels_too() -> None:
    """Both losses then shrink by the ratio of labelled pixels, and of labelled points."""
    module, (images, labels) = objective().eval(), batch()
    labels[:, :, :12] = 255  # a quarter of the pixels
    labelled = module(SemanticBatch(images, labels), 7)
    module.loss = SemanticLoss(sampling=Sampling(32), average="all")
    everywhere = module(SemanticBatch(images, labels), 7)
    assert everywhere.coarse.item() == pytest.approx(labelled.coarse.item() * 0.75, rel=1e-5)
    points = training_points(module.network(images).coarse, Sampling(32), generator=torch.Generator().manual_seed(7))
    ratio = (sample_labels(labels, points) != 255).float().mean().item()
    assert 0.5 < ratio < 0.95
    assert everywhere.points.item() == pytest.approx(labelled.points.item() * ratio, rel=1e-5)


def test_points_depend_on_the_seed_alone() -> None:
    module, (images, labels) = objective().eval(), batch()
    same = [module(SemanticBatch(images, labels), 3).points.item() for _ in range(2)]
    assert same[0] == same[1]
    assert module(SemanticBatch(images, labels), 4).points.item() != same[0]


def test_weights_scale_the_parts() -> None:
    module, (images, labels) = objective(weights=LossWeights(coarse=0.0, points=2.0)).eval(), batch()
    losses = module(SemanticBatch(images, labels), 3)
    assert losses.total.item() == pytest.approx(2 * losses.points.item(), rel=1e-5)


def test_gradients_reach_every_part() -> None:
    module, (images, labels) = objective(), batch()
    module(SemanticBatch(images, labels), 3).total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("num_classes", [1, 3])
def test_an_ignored_image_in_the_batch_and_a_batch_of_nothing_else(num_classes: int) -> None:
    module, (images, labels) = objective(num_classes), batch()
    labels = labels.clamp(max=1)
    labels[0] = 255
    assert torch.isfinite(module(SemanticBatch(images, labels), 3).total)
    losses = module(SemanticBatch(images, torch.full_like(labels, 255)), 3)
    losses.total.backward()
    assert losses.total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_trains_under_autocast() -> None:
    module, (images, labels) = objective(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = module(SemanticBatch(images, labels), 3)
    losses.total.backward()
    assert losses.total.dtype == torch.float32


def with_loss(module: SemanticObjective, **changes: object) -> SemanticObjective:
    module.loss = SemanticLoss.model_validate(module.loss.model_dump() | changes)
    return module


def parts(module: SemanticObjective, seed: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The upsampled coarse logits and their labels, the point logits and theirs."""
    images, labels = batch()
    output = module.network(images)
    dense = F.interpolate(output.coarse, size=(64, 48), mode="bilinear", align_corners=False)
    points = training_points(output.coarse, Sampling(32), generator=torch.Generator().manual_seed(seed))
    return dense, labels, module.network.point_logits(output, points).transpose(1, 2), sample_labels(labels, points)


def test_focal_replaces_or_joins_the_cross_entropy_everywhere() -> None:
    module = with_loss(objective().eval(), cross_entropy=0.0, focal=2.0, focal_gamma=1.5)
    dense, labels, at_points, point_labels = parts(module)

    def focal(logits: torch.Tensor, labels: torch.Tensor) -> float:
        p = logits.softmax(1).gather(1, labels.long().unsqueeze(1))
        return (-((1 - p) ** 1.5) * p.log()).mean().item()

    losses = module(SemanticBatch(batch()[0], labels), 7)
    assert losses.coarse == pytest.approx(2 * focal(dense, labels), rel=1e-5)
    assert losses.points == pytest.approx(2 * focal(at_points, point_labels), rel=1e-5)
    with_loss(module, cross_entropy=0.5)
    both = module(SemanticBatch(batch()[0], labels), 7)
    assert both.coarse.item() == pytest.approx(
        2 * focal(dense, labels) + 0.5 * F.cross_entropy(dense, labels).item(), rel=1e-5
    )


def test_smoothing_and_class_weights_reach_coarse_logits_and_points() -> None:
    module = with_loss(objective().eval(), label_smoothing=0.3)
    dense, labels, at_points, point_labels = parts(module)
    smoothed = module(SemanticBatch(batch()[0], labels), 7)
    assert smoothed.coarse == pytest.approx(F.cross_entropy(dense, labels, label_smoothing=0.3).item(), rel=1e-5)
    expected = F.cross_entropy(at_points, point_labels.long(), label_smoothing=0.3).item()
    assert smoothed.points == pytest.approx(expected, rel=1e-5)

    module = with_loss(module, label_smoothing=0.0)
    module.class_weights = weights = torch.tensor([0.5, 1.0, 3.0])
    weighted = module(SemanticBatch(batch()[0], labels), 7)
    assert weighted.coarse == pytest.approx(F.cross_entropy(dense, labels, weight=weights).item(), rel=1e-5)
    expected = F.cross_entropy(at_points, point_labels.long(), weight=weights).item()
    assert weighted.points == pytest.approx(expected, rel=1e-5)


def test_regions_are_compared_on_the_coarse_logits_alone() -> None:
    plain = objective(weights=LossWeights(coarse=0.5, points=2.0)).eval()
    images, labels = batch()
    before = plain(SemanticBatch(images, labels), 7)
    assert before.region.item() == 0
    module = with_loss(plain, dice=3.0, lovasz=0.25)
    losses = module(SemanticBatch(images, labels), 7)
    dense = parts(module)[0]
    region = 3 * dice_loss(dense, labels).item() + 0.25 * lovasz_loss(dense, labels).item()
    assert region > 1
    assert losses.region.item() == pytest.approx(region, rel=1e-5)
    assert (losses.coarse.item(), losses.points.item()) == (before.coarse.item(), before.points.item())
    assert losses.total.item() == pytest.approx(before.total.item() + 0.5 * region, rel=1e-5)


def test_easy_pixels_are_left_out_of_coarse_logits_and_not_of_points() -> None:
    module = objective().eval()
    images, labels = batch()
    before = module(SemanticBatch(images, labels), 7)
    with_loss(module, ohem={"threshold": 0.3, "min_kept": 500})
    losses = module(SemanticBatch(images, labels), 7)
    each = F.cross_entropy(parts(module)[0], labels, reduction="none").flatten()
    p = (-each).exp()
    hard = (p < 0.3) | (p <= p.sort().values[999])  # of two images
    assert 0.05 < hard.float().mean() < 0.95
    assert losses.coarse.item() == pytest.approx(each[hard].mean().item(), rel=1e-5)
    assert losses.points.item() == before.points.item()


VARIANTS: dict[str, dict[str, object]] = {
    "focal": {"cross_entropy": 0.0, "focal": 1.0},
    "smoothing": {"label_smoothing": 0.1},
    "regions": {"dice": 1.0, "lovasz": 1.0},
    "ohem": {"ohem": {"threshold": 0.7, "min_kept": 10}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("num_classes", [1, 3])
def test_variants_under_autocast_with_ignored_images(num_classes: int, changes: dict[str, object]) -> None:
    module = with_loss(objective(num_classes), **changes)
    images, labels = batch()
    labels = labels.clamp(max=1)
    labels[0] = 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = module(SemanticBatch(images, labels), 3)
    assert losses.total.dtype == torch.float32
    assert losses.total.isfinite()
    losses.total.backward()
    nothing = module(SemanticBatch(images, torch.full_like(labels, 255)), 3)
    assert nothing.total.item() == 0
    nothing.total.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cross_entropy": 0.0}, "points are trained by cross_entropy or focal: set one of them above 0"),
        ({"class_weights": [1.0, 2.0], "class_balance": 0.25}, "class_weights and class_balance exclude each other"),
        ({"class_weights": [0.0, 0.0]}, "class_weights must have one above 0"),
        ({"class_weights": [1.0, -1.0]}, "greater than or equal to 0"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"focal": -1.0}, "greater than or equal to 0"),
        ({"focal": 1.0, "focal_gamma": 0.0}, "greater than 0"),
        ({"ohem": {"threshold": 1.5}}, "less than or equal to 1"),
        ({"ohem": {"min_kept": 0}}, "greater than or equal to 1"),
    ],
)
def test_settings_that_make_no_loss_are_refused_in_one_line(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(PointRendError, match=expected) as error:
        SemanticLoss(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_settings_that_do_not_fit_the_classes_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = SemanticLoss(class_weights=(1.0, 2.0))
    loss.check(2, independent=False)
    with pytest.raises(PointRendError, match="a weight for each of the 3 classes, got 2"):
        loss.check(3, independent=False)
    mined = SemanticLoss(ohem=HardPixels(threshold=0.7))
    mined.check(3, independent=False)
    with pytest.raises(PointRendError, match=r"loss\.ohem: .*multi-label.*; set loss\.ohem\.threshold to 0"):
        mined.check(3, independent=True)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    SemanticLoss().check(3, independent=True)
    for region in ("dice", "lovasz"):
        with pytest.raises(ImportError, match="pip install"):
            SemanticLoss.model_validate({region: 0.5}).check(3, independent=False)


def test_auxiliary_heads_are_trained_as_the_coarse_logits_but_for_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: dict[str, object] = {"focal": 0.5, "label_smoothing": 0.1, "dice": 1.0}
    module = with_loss(objective().eval(), **changes, ohem={"threshold": 0.3, "min_kept": 500})
    forward = module.network.forward

    def with_auxiliary(images: torch.Tensor) -> SemanticOutput:
        output = forward(images)
        return replace(output, auxiliary=(output.coarse,))

    monkeypatch.setattr(module.network, "forward", with_auxiliary)
    losses = module(SemanticBatch(*batch()), 7)
    assert losses.auxiliary.item() == pytest.approx(losses.coarse.item(), rel=1e-6)
    total = losses.coarse + losses.region + losses.points + 0.4 * losses.auxiliary
    assert losses.total.item() == pytest.approx(total.item(), rel=1e-6)
