"""ImageNet weights come from where they were downloaded to, and fail at once without a network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from pointrend.models import Backbone
from pointrend.models.backbones import backbone_and_pyramid
from pointrend.models.settings import PyramidArchitecture
from pointrend.training import initial
from pointrend.training.initial import load_imagenet_weights
from pointrend.training.recipe import RecipeError

NAME = "test_efficientnet"


def backbone() -> Backbone:
    return backbone_and_pyramid(PyramidArchitecture(backbone=NAME, fpn_channels=8))[0]


def test_without_a_network_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> None:
        raise socket.gaierror("Name or service not known")

    empty = backbone()
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(initial, "getproxies", dict)
    monkeypatch.setattr(initial, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("asked the server"))
    with pytest.raises(RecipeError, match=r"could not download .*no network: .* is not known") as error:
        load_imagenet_weights(empty, NAME)
    assert "--set start.weights=none" in str(error.value)


def test_downloaded_weights_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    published = timm.create_model(NAME).state_dict()
    save_file(published, tmp_path / "model.safetensors")
    monkeypatch.setattr(initial, "try_to_load_from_cache", lambda *_: str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked for the server"))
    found = backbone()
    load_imagenet_weights(found, NAME)
    assert all(torch.equal(value, published[key]) for key, value in found.model.state_dict().items())
