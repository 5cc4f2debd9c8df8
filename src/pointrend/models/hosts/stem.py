"""A small trained stem, for hosts that have no fine maps."""

from __future__ import annotations

from torch import Tensor, nn

STEM_CHANNELS = (32, 64)
"""At strides 2 and 4."""


class Stem(nn.Module):
    """Reads the image itself: maps of 64 channels at stride 4 and of 32 at stride 2.

    Three 3x3 convolutions with batch norms: enough to see edges and colours, which hosts of stride 8 and more lack.
    """

    def __init__(self) -> None:
        super().__init__()
        fine, coarse = STEM_CHANNELS
        self.at_2 = nn.Sequential(_block(3, fine, stride=2), _block(fine, fine, stride=1))
        self.at_4 = _block(fine, coarse, stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, H, W) -> maps at strides 4 and 2."""
        half = self.at_2(images)
        return self.at_4(half), half


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
