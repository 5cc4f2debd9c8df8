"""A small Mask R-CNN of torchvision, images and targets for it, for the tests of `attach`."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import (
    MaskRCNN,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator

from pointrend.models import MaskArchitecture, PointArchitecture
from pointrend.models.attach import attach

ANCHORS = AnchorGenerator(((16,), (24,), (32,), (48,)), ((0.5, 1.0, 2.0),) * 4)


class Pyramid(nn.Module):
    """Four maps; the first channel of each is the image's brightness, seen through windows of the stride."""

    def __init__(self, strides: tuple[int, ...] = (4, 8, 16, 32), channels: int = 8) -> None:
        super().__init__()
        self.strides = strides
        self.out_channels = channels
        self.mix = nn.Conv2d(3, channels - 1, 1)
        self.norm = nn.BatchNorm2d(channels - 1)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = torch.cat((images.mean(dim=1, keepdim=True), self.norm(self.mix(images))), dim=1)
        return OrderedDict((str(i), F.avg_pool2d(maps, stride)) for i, stride in enumerate(self.strides))


def small(*, num_classes: int = 4, min_size: int = 96, **settings: object) -> MaskRCNN:
    torch.manual_seed(0)
    numbers: dict[str, object] = {
        "image_mean": (0.5, 0.5, 0.5),
        "image_std": (0.25, 0.25, 0.25),
        "rpn_pre_nms_top_n_test": 30,
        "rpn_post_nms_top_n_test": 20,
        "box_score_thresh": 0.0,
        "box_detections_per_img": 12,
        "rpn_anchor_generator": ANCHORS,
    }
    return MaskRCNN(Pyramid(), num_classes, min_size=min_size, max_size=400, **(numbers | settings)).eval()


def attached(
    model: MaskRCNN, *, class_agnostic: bool = False, point: dict[str, object] | None = None, **settings: object
) -> MaskRCNN:
    """Attach a small mask side."""
    numbers = PointArchitecture.model_validate({"hidden": 8, **(point or {})})
    architecture = MaskArchitecture(channels=8, hidden=16, class_agnostic=class_agnostic, point=numbers)
    return attach(model, architecture, **settings)  # type: ignore[arg-type]


def pictures() -> list[Tensor]:
    """Two sizes, so that the batch is padded."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, *size, generator=generator) for size in ((96, 128), (110, 97))]


def targets() -> list[dict[str, Tensor]]:
    masks = torch.zeros(2, 96, 128, dtype=torch.uint8)
    masks[0, 10:50, 20:70] = 1
    masks[1, 40:90, 60:128] = 1
    return [
        {
            "boxes": torch.tensor([[20.0, 10, 70, 50], [60, 40, 128, 90]]),
            "labels": torch.tensor([1, 3]),
            "masks": masks,
        },
        {
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "masks": torch.zeros(0, 110, 97, dtype=torch.uint8),
        },
    ]


@torch.no_grad()
def run(model: MaskRCNN, images: list[Tensor]) -> list[dict[str, Tensor]]:
    return model(images)
