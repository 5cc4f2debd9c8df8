"""The published checkpoints are still where they were published; run with `pytest -m network`."""

from __future__ import annotations

from urllib.request import Request, urlopen

import pytest

from pointrend.zoo.manifest import PUBLISHED


@pytest.mark.network
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_file_is_there(name: str) -> None:
    published = PUBLISHED[name]
    with urlopen(Request(published.url, method="HEAD"), timeout=60) as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) >= published.weight_bytes
