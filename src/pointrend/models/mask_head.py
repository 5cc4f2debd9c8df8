"""The mask side of instance PointRend: coarse masks, points in boxes, rendering (paper, section 4.1).

Shapes: N images, R regions (of all images, in the images' order), C classes, P points, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointrend.core import (
    MASK_SUBDIVISION,
    Subdivision,
    box_to_image,
    check_finite,
    regular_grid,
    sample_points,
    subdivision_steps,
)
from pointrend.core.points import Padding
from pointrend.models.point_head import PointHead
from pointrend.models.settings import MaskArchitecture

CHUNK_BYTES = 2**27
"""Memory budget, in bytes, of the largest tensor of rendering; regions are rendered in chunks."""


class CoarseMaskHead(nn.Module):
    """Coarse mask logits from a grid of fine features, by two fully connected layers.

    Args:
        in_channels: D, of the features.
        num_classes: C; 1 for masks that do not depend on the class.
        channels: of the convolution; a 1x1 convolution before it where D is larger.
        hidden: width of the fully connected layers.
        side: cells of the coarse mask; features come on twice as many.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, channels: int = 256, hidden: int = 1024, side: int = 7
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.side = side
        self.reduce = nn.Conv2d(in_channels, channels, kernel_size=1) if in_channels > channels else None
        width = channels if self.reduce is not None else in_channels
        self.conv = nn.Conv2d(width, channels, kernel_size=2, stride=2)
        self.fc1 = nn.Linear(channels * side * side, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, num_classes * side * side)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("fc"):
                nn.init.kaiming_uniform_(parameter, a=1)
            elif name.startswith("classifier"):
                nn.init.normal_(parameter, std=0.001)  # starts from no opinion, as published
            else:
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """features (R, D, 2 * side, 2 * side) -> logits (R, C, side, side)."""
        x = features if self.reduce is None else torch.relu(self.reduce(features))
        x = torch.relu(self.conv(x)).flatten(1)
        x = torch.relu(self.fc2(torch.relu(self.fc1(x))))
        logits: Tensor = self.classifier(x)
        return logits.view(-1, self.num_classes, self.side, self.side)


class PointRendMaskHead(nn.Module):
    """Masks of boxes: a coarse prediction, refined at points.

    Args:
        coarse_head: from features on a grid in the box.
        point_head: logits at points.
        padding: how points read the maps, see `sample_points`.
    """

    def __init__(self, *, coarse_head: CoarseMaskHead, point_head: PointHead, padding: Padding = "zeros") -> None:
        super().__init__()
        self.coarse_head = coarse_head
        self.point_head = point_head
        self.padding: Padding = padding

    def coarse(self, p2: Tensor, boxes: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Return coarse logits (R, C, 7, 7).

        Args:
            p2: (N, D, h, w), the pyramid's finest map.
            boxes: (R, 4) of each image, xyxy in pixels of the input.
            size: (H, W) of the input, with its padding.
        """
        side = 2 * self.coarse_head.side
        total = sum(len(b) for b in boxes)
        grid = regular_grid((side, side), batch=total, device=p2.device)
        # A grid of points, not RoIAlign: near the map's border they differ.
        features = sample_in_boxes(p2, boxes, grid, size, padding=self.padding)
        logits: Tensor = self.coarse_head(features.transpose(1, 2).reshape(total, p2.shape[1], side, side))
        return logits

    def point_logits(
        self,
        fine: Sequence[Tensor],
        coarse: Tensor,
        boxes: Sequence[Tensor],
        classes: Tensor,
        points_box: Tensor,
        size: tuple[int, int],
    ) -> Tensor:
        """Return logits (R, P, 1) of each region's own class, at points of its box.

        Args:
            fine: maps (N, D, ., .) of the input, whose channels are concatenated.
            coarse: (R, C, 7, 7), logits of all classes, which the point head sees.
            boxes: (R, 4) of each image.
            classes: (R,), int64; ignored where masks do not depend on the class.
            points_box: (R, P, 2), in the frame of each box.
            size: (H, W) of the input, with its padding.
        """
        features = [sample_in_boxes(f, boxes, points_box, size, padding=self.padding) for f in fine]
        at_points = sample_points(coarse, points_box, padding=self.padding)
        return self.point_head.class_logits(torch.cat(features, dim=2), at_points, self.logit_of(classes))

    def logit_of(self, classes: Tensor) -> Tensor:
        """Return the index of each class's logit: 0 for all where masks do not depend on the class."""
        return classes if self.coarse_head.num_classes > 1 else torch.zeros_like(classes)

    def of_class(self, coarse: Tensor, classes: Tensor) -> Tensor:
        """Select the coarse logits of each region's own class: (R, C, 7, 7) -> (R, 1, 7, 7)."""
        rows = torch.arange(len(coarse), device=coarse.device)
        return coarse[rows, self.logit_of(classes)].unsqueeze(1)

    def render(
        self,
        fine: Sequence[Tensor],
        boxes: Sequence[Tensor],
        classes: Tensor,
        size: tuple[int, int],
        subdivision: Subdivision = MASK_SUBDIVISION,
    ) -> list[Tensor]:
        """Return mask logits at every stage: coarse (R, 1, 7, 7), start grid (R, 1, 28, 28), ..., (R, 1, 224, 224).

        Only each region's own class is rendered, in chunks of regions, so that apart from the result memory depends
        neither on the number of classes nor on that of regions.

        Args:
            fine: as in `point_logits`; the first map is P2.
            boxes: (R, 4) of each image.
            classes: (R,), of all images.
            size: (H, W) of the input, with its padding.
            subdivision: its `start` is the side of the first grid, on which every pixel is predicted. From 7 pixels,
                the first two doublings would select every pixel anyway.
        """
        channels = sum(f.shape[1] for f in fine) + self.coarse_head.num_classes + 256
        a_region = 4 * channels * max(subdivision.start**2, subdivision.num_points)
        chunk = max(1, CHUNK_BYTES // a_region)
        stages: list[list[Tensor]] = [[] for _ in self.sides(subdivision)]
        done = 0
        for index, of_image in enumerate(boxes):
            maps = [f[index : index + 1] for f in fine]
            for part in torch.split(of_image, chunk) if len(of_image) else ():
                own = classes[done : done + len(part)]
                done += len(part)
                made = self._render(maps, [part], own, size, subdivision)
                for stage, logits in zip(stages, made, strict=True):
                    stage.append(logits)
        return [
            torch.cat(parts) if parts else fine[0].new_zeros((0, 1, side, side), dtype=torch.float32)
            for parts, side in zip(stages, self.sides(subdivision), strict=True)
        ]

    def sides(self, subdivision: Subdivision) -> list[int]:
        """Return the side of each stage's grid: 7, 28, 56, 112, 224."""
        return [self.coarse_head.side, *(subdivision.start * 2**step for step in range(subdivision.steps + 1))]

    def _render(
        self,
        fine: Sequence[Tensor],
        boxes: Sequence[Tensor],
        classes: Tensor,
        size: tuple[int, int],
        subdivision: Subdivision,
    ) -> list[Tensor]:
        start = subdivision.start
        coarse = check_finite(self.coarse(fine[0], boxes, size), "coarse mask logits")

        def predict(points_box: Tensor) -> Tensor:
            return self.point_logits(fine, coarse, boxes, classes, points_box, size)

        grid = regular_grid((start, start), batch=len(coarse), device=coarse.device)
        logits = check_finite(predict(grid), "logits at points").view(-1, 1, start, start).float()
        rendered = [self.of_class(coarse, classes).float(), logits]
        rendered += [s.logits for s in subdivision_steps(logits, predict, subdivision)]
        return rendered


def mask_head(
    num_classes: int, channels: int, architecture: MaskArchitecture, *, fine_channels: int | None = None
) -> PointRendMaskHead:
    """Build a mask side with new weights.

    Args:
        num_classes: C, of the detector, without the background.
        channels: of P2, which coarse masks are made of.
        architecture: all other numbers.
        fine_channels: of all maps that points read; None for P2 alone.
    """
    num_masks = 1 if architecture.class_agnostic else num_classes
    return PointRendMaskHead(
        coarse_head=CoarseMaskHead(
            in_channels=channels,
            num_classes=num_masks,
            channels=architecture.channels,
            hidden=architecture.hidden,
        ),
        point_head=PointHead(
            in_channels=channels if fine_channels is None else fine_channels,
            num_classes=num_masks,
            architecture=architecture.point,
        ),
        padding=architecture.point.padding,
    )


def sample_in_boxes(
    features: Tensor, boxes: Sequence[Tensor], points_box: Tensor, size: tuple[int, int], *, padding: Padding = "zeros"
) -> Tensor:
    """Read maps at points of boxes.

    Args:
        features: (N, D, h, w), maps of the input.
        boxes: (R, 4) of each image, xyxy in pixels of the input.
        points_box: (R, P, 2), in the frame of each box.
        size: (H, W) of the input, with its padding.

    Returns:
        (R, P, D), float32 or float64.
    """
    points = torch.split(box_to_image(points_box, torch.cat(list(boxes)), size), [len(b) for b in boxes])
    parts = []
    for index, of_image in enumerate(points):
        flat = sample_points(features[index : index + 1], of_image.flatten(0, 1).unsqueeze(0), padding=padding)
        parts.append(flat.view(*of_image.shape[:2], features.shape[1]))
    return torch.cat(parts)
