"""The training of PointRend on torchvision's Mask R-CNN."""

from __future__ import annotations

import copy

import torch
from hosts import attached, pictures, small, targets

from pointrend.core import LossWeights, Sampling, sample_points
from pointrend.models.attach import PointRendHeads, pasted
from pointrend.models.mask_targets import read_bitmasks


def test_losses_reach_every_parameter_and_are_finite() -> None:
    model = attached(small(), point={"coarse_every_layer": True}).train()
    torch.manual_seed(0)
    losses = model(pictures(), targets())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert any(p.grad.abs().sum() > 0 for p in model.roi_heads.mask_head.coarse_head.parameters())
    assert any(p.grad.abs().sum() > 0 for p in model.roi_heads.mask_head.point_head.parameters())


def test_images_without_objects_train_through() -> None:
    model = attached(small()).train()
    empty = targets()[1]
    batch = [dict(empty, masks=torch.zeros(0, 96, 128, dtype=torch.uint8)), empty]
    losses = model(pictures(), batch)
    assert losses["loss_mask_coarse"].item() == losses["loss_mask_points"].item() == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.roi_heads.mask_head.parameters())


def test_weights_of_the_losses() -> None:
    torch.manual_seed(0)
    plain = attached(small()).train()
    weighted = copy.deepcopy(plain)
    weighted.roi_heads.weights = LossWeights(coarse=3.0, points=0.5)
    torch.manual_seed(4)
    one = plain(pictures(), targets())
    torch.manual_seed(4)
    two = weighted(pictures(), targets())
    torch.testing.assert_close(two["loss_mask_coarse"], 3 * one["loss_mask_coarse"])
    torch.testing.assert_close(two["loss_mask_points"], 0.5 * one["loss_mask_points"])


def test_masks_are_learned() -> None:
    """A few steps on one image: the mask losses fall by half and the mask of its box is right."""
    torch.manual_seed(0)
    model = attached(small(num_classes=2), sampling=Sampling(64)).train()
    image = torch.zeros(3, 96, 128)
    image[:, 20:70, 30:90] = 1
    image[:, 20:40, 30:50] = 0  # a corner of the box is not the object
    mask = (image[:1] > 0).byte()
    target = {"boxes": torch.tensor([[30.0, 20, 90, 70]]), "labels": torch.tensor([1]), "masks": mask}
    optimizer = torch.optim.Adam(model.roi_heads.mask_head.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        losses = model([image], [target])
        loss = losses["loss_mask_coarse"] + losses["loss_mask_points"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < history[0] / 2
    heads = model.eval().roi_heads
    assert isinstance(heads, PointRendHeads)
    with torch.no_grad():
        fine = model.backbone(model.transform([image])[0].tensors)["0"]
        stages = heads.mask_head.render((fine,), [target["boxes"]], torch.zeros(1, dtype=torch.int64), (96, 128))
    found = pasted(stages[-1].sigmoid(), target["boxes"], (96, 128))[0, 0] > 0.5
    wanted = mask[0] > 0
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


def test_target_masks_are_read_as_sample_points_would() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [(torch.rand(n, 13, 17, generator=generator) > 0.5).byte() for n in (3, 0, 2)]
    matched = [torch.tensor([2, 0, 2, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([1])]
    boxes = [torch.rand(len(m), 4, generator=generator) * 8 for m in matched]
    boxes = [torch.cat((b[:, :2] - 2, b[:, :2] + 2 + b[:, 2:]), dim=1) for b in boxes]
    points = torch.rand(5, 50, 2, generator=generator)
    found = read_bitmasks(masks, matched, boxes, points)
    assert found.shape == (5, 50)
    region = 0
    for of_image, instances, image_boxes in zip(masks, matched, boxes, strict=True):
        for instance, box in zip(instances, image_boxes, strict=True):
            places = (box[:2] + points[region] * (box[2:] - box[:2])) / torch.tensor([17.0, 13.0])
            expected = sample_points(of_image[instance][None, None].float(), places[None])[0, :, 0]
            torch.testing.assert_close(found[region], expected, atol=1e-5, rtol=0)
            region += 1
    doubled = [m.bool() for m in masks]
    assert torch.equal(read_bitmasks(doubled, matched, boxes, points), found)
