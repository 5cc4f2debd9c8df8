"""What every test shares: few threads, reproducible hypothesis, and real photographs where there are some."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pointrend.models import SemanticPointRend

# No deadline, because machines differ; the same examples everywhere, so that others see the same failure.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci")

# More threads make small tensors slower, and pools of several test processes fight for the cores.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images that POINTREND_TEST_DATA names, with people/, camvid/ and others."""
    value = os.environ.get("POINTREND_TEST_DATA", "")
    if not value:
        pytest.skip("needs real images: set POINTREND_TEST_DATA to their folder")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"POINTREND_TEST_DATA is {value}, which is not a folder")
    return folder


MMSEGMENTATION_NAMES = (
    (r"backbone\.model\.conv1\.(\d)\.", r"backbone.stem.\1."),
    (r"backbone\.model\.bn1\.", "backbone.stem.7."),
    (r"backbone\.model\.", "backbone."),
    (r"pyramid\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"pyramid\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"coarse_head\.levels\.(\d)\.(\d)\.0\.", lambda m: f"decode_head.0.scale_heads.{m[1]}.{2 * int(m[2])}.conv."),
    (r"coarse_head\.levels\.(\d)\.(\d)\.1\.", lambda m: f"decode_head.0.scale_heads.{m[1]}.{2 * int(m[2])}.bn."),
    (r"coarse_head\.classifier\.", "decode_head.0.conv_seg."),
    (r"point_head\.layers\.(\d)\.", r"decode_head.1.fcs.\1.conv."),
    (r"point_head\.classifier\.", "decode_head.1.fc_seg."),
)


@pytest.fixture(scope="session")
def as_mmsegmentation() -> Callable[[SemanticPointRend], dict[str, torch.Tensor]]:
    """The weights of one of our networks by the names, and in the shapes, that mmsegmentation gives them."""

    def name_of(ours: str) -> str:
        for pattern, theirs in MMSEGMENTATION_NAMES:
            name, count = re.subn(rf"^{pattern}", theirs, ours)
            if count:
                return name
        raise AssertionError(ours)

    def convert(network: SemanticPointRend) -> dict[str, torch.Tensor]:
        # Layers over points are convolutions there.
        return {
            name_of(key): value.unsqueeze(2) if key.startswith("point_head.") and value.ndim == 2 else value
            for key, value in network.state_dict().items()
        }

    return convert


@pytest.fixture(scope="session")
def parity(test_data: Path) -> Path:
    """The folder parity/ beside the test data: names, shapes and reference outputs of published models."""
    folder = test_data.parent / "parity"
    if not folder.is_dir():
        pytest.skip(f"needs reference outputs of published models: there is no {folder}")
    return folder
