"""Fine maps from a function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pointrend
from pointrend.models.hosts.with_maps import WithMaps
from pointrend.zoo import Model


class Host(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 3, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(self.head(images), images.shape[2:], mode="bilinear", align_corners=False)


def halves(images: Tensor) -> list[Tensor]:
    small = nn.functional.avg_pool2d(images, 2)
    return [small, nn.functional.avg_pool2d(small, 2)[:, :2]]


def test_points_read_the_maps_of_a_function(tmp_path: Path) -> None:
    host = Host()
    model = pointrend.attach(host, fine=halves)
    assert isinstance(model, Model)
    layout = model.spec.architecture.host
    assert (layout.fine, layout.fine_channels, layout.stride) == (("maps.1", "maps.0"), (2, 3), 8)
    images = torch.randn(1, 3, 64, 64)
    output = model.network.eval()(images)
    for found, expected in zip(output.fine, reversed(halves(images)), strict=True):
        torch.testing.assert_close(found, expected)
    pointrend.save_model(model, tmp_path / "m.safetensors")
    again = pointrend.load_model(tmp_path / "m.safetensors", host=WithMaps(Host(), halves))
    photo = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    np.testing.assert_array_equal(again.predict(photo).labels, model.predict(photo).labels)


def test_wrong_functions_are_said() -> None:
    with pytest.raises(pointrend.PointRendError, match=r"fine must give 1 to 8 maps \(N, D, h, w\), got \['Tensor'\]"):
        pointrend.attach(Host(), fine=lambda images: [images.mean()])
    with pytest.raises(pointrend.PointRendError, match="for hosts that are modules and take images"):
        pointrend.attach("smp.FPN", fine=halves, num_classes=2)
