"""What to say when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pointrend.data.images import ImageError


@contextmanager
def memory_reported(size: tuple[int, int]) -> Iterator[None]:
    """Turn what torch raises when memory runs out into one line; other errors are bugs and stay as they are."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise ImageError(
            f"not enough memory for {size[0]} x {size[1]} pixels; a smaller image or size= / --size needs less"
        ) from error
