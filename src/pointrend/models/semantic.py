"""Semantic PointRend: backbone, pyramid, coarse head and point head, joined."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork

from pointrend.core.points import Padding
from pointrend.models.backbones import PYRAMID_STRIDES, Backbone, backbone_and_pyramid, pyramid_maps
from pointrend.models.coarse import SemanticFPNHead
from pointrend.models.hosts.network import hosted_pointrend
from pointrend.models.point_head import PointHead
from pointrend.models.semantic_network import SemanticNetwork
from pointrend.models.settings import SemanticArchitecture


class SemanticPointRend(SemanticNetwork):
    """PointRend for semantic segmentation on our own pyramid (paper, section 4.2).

    Args:
        backbone: gives maps at `backbone.strides`, of which the last four are 4, 8, 16, 32.
        pyramid: torchvision's FPN over these four.
        coarse_head: coarse logits from the pyramid.
        point_head: logits at points.
        padding: how points read the maps, see `sample_points`.
        levels: of the pyramid that points read, 0 for stride 4; the backbone's finer maps are read too.

    `semantic_pointrend` builds one from numbers.
    """

    encoder_parts = ("backbone", "pyramid", "coarse_head")
    """What `maps` is computed by; see `with_encoder`."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        pyramid: FeaturePyramidNetwork,
        coarse_head: SemanticFPNHead,
        point_head: PointHead,
        padding: Padding = "zeros",
        levels: tuple[int, ...] = (0,),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.coarse_head = coarse_head
        self.point_head = point_head
        self.padding: Padding = padding
        self.levels = levels

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what `forward` does as plain tensors: the coarse logits, then the fine features."""
        pyramid, early = pyramid_maps(self.backbone, self.pyramid, images)
        return (self.coarse_head(pyramid), *(pyramid[level] for level in self.levels), *early)


def semantic_pointrend(
    num_classes: int, architecture: SemanticArchitecture = SemanticArchitecture()
) -> SemanticNetwork:
    """Build a network with new weights; the defaults are the published settings of our own, a `SemanticPointRend`.

    Args:
        num_classes: C; 1 makes a binary model with a single logit.
        architecture: all other numbers.

    Raises:
        ValueError: `num_classes` is out of its range, or the backbone will not do (see `Backbone`).
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1 (binary, a single logit), got {num_classes}")
    if architecture.host.family is not None:
        return hosted_pointrend(num_classes, architecture)
    backbone, pyramid, fine_channels = backbone_and_pyramid(architecture, context=architecture.context)
    return SemanticPointRend(
        backbone=backbone,
        pyramid=pyramid,
        coarse_head=SemanticFPNHead(
            in_channels=architecture.fpn_channels,
            channels=architecture.coarse_channels,
            num_classes=num_classes,
            norm=architecture.coarse_norm,
        ),
        point_head=PointHead(
            in_channels=fine_channels,
            num_classes=num_classes,
            architecture=architecture.point,
        ),
        padding=architecture.point.padding,
        levels=tuple(PYRAMID_STRIDES.index(s) for s in architecture.fine_strides if s in PYRAMID_STRIDES),
    )
