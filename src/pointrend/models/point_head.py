"""The multilayer perceptron that predicts at points."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointrend.models.settings import PointArchitecture


class PointHead(nn.Module):
    """Predicts logits at points from fine features and coarse logits (paper, section 3.3).

    A multilayer perceptron with weights shared across points. With `coarse_every_layer`, as in the paper's experiments,
    every hidden layer and the last one see the coarse logits again; otherwise only the first does.

    Args:
        in_channels: D, the fine features of a point, all maps together.
        num_classes: C.
        architecture: the widths and options. The published heads have no norm; without one, a pyramid whose features
            are ten times as large as the coarse logits hides these for thousands of iterations.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, architecture: PointArchitecture = PointArchitecture()
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_channels) if architecture.normalize else None
        self.coarse_every_layer = architecture.coarse_every_layer
        repeated = num_classes if architecture.coarse_every_layer else 0
        widths = [in_channels + num_classes] + [architecture.hidden + repeated] * architecture.depth
        self.layers = nn.ModuleList(nn.Linear(width, architecture.hidden) for width in widths[:-1])
        self.classifier = nn.Linear(widths[-1], num_classes)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.classifier.weight, std=0.001)  # starts from no opinion, as published
        nn.init.zeros_(self.classifier.bias)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """fine (N, P, D), coarse (N, P, C) -> logits (N, P, C)."""
        logits: Tensor = self.classifier(self._hidden(fine, coarse))
        return logits

    @torch.no_grad()
    def start_from_coarse(self) -> None:
        """Make the new head's logits the coarse ones, to start from a prediction that is good already.

        The last layer's weights of the coarse logits become 1. A head whose last layer does not see them stays as it
        is.
        """
        classes = self.classifier.out_features
        if self.coarse_every_layer or not self.layers:
            self.classifier.weight[:, -classes:] = torch.eye(classes)

    def class_logits(self, fine: Tensor, coarse: Tensor, classes: Tensor) -> Tensor:
        """Return the logits of one class for each region: those of `forward` at `classes`, without the other classes.

        fine (R, P, D), coarse (R, P, C), classes (R,) -> logits (R, P, 1).
        """
        weight, bias = self.classifier.weight[classes], self.classifier.bias[classes]
        return torch.baddbmm(bias[:, None, None], self._hidden(fine, coarse), weight.unsqueeze(2))

    def _hidden(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Return the input of the classifier."""
        if self.norm is not None:
            fine = self.norm(fine.flatten(0, 1)).view_as(fine)
        x = torch.cat((fine, coarse), dim=2)
        for layer in self.layers:
            x = torch.relu(layer(x))
            if self.coarse_every_layer:
                x = torch.cat((x, coarse), dim=2)
        return x
