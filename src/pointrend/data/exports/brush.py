"""Label Studio's run-length encoding of brush strokes.

It is thi.ng's rle-pack (https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts) over the
RGBA bytes of an image: 32 bits of the number of values, 5 bits of their length less one, four times 4 bits of the
lengths of run lengths less one; then runs of one bit (1: one value repeated, 0: values), 2 bits that choose a length of
run lengths, the run's length less one, and its value or values.
"""

from __future__ import annotations

import numpy as np

from pointrend.data.problems import DatasetError

_ALPHA = 3


def decode_brush(rle: object, size: tuple[int, int]) -> np.ndarray:
    """Decode a mask (H, W) bool: where the alpha channel is above 0.

    Args:
        rle: a list of bytes.
        size: (H, W) of the image.

    Raises:
        DatasetError: it is something else, ends too early, or is of an image of another size.
    """
    if not isinstance(rle, list) or not all(type(value) is int and 0 <= value < 256 for value in rle):
        raise DatasetError("a brush's rle must be a list of numbers in 0..255")
    bits = _Bits(bytes(rle))
    total = bits.read(32)
    if total != 4 * size[0] * size[1]:
        raise DatasetError(f"a brush's rle must have {4 * size[0] * size[1]} values for its image, got {total}")
    length = bits.read(5) + 1
    if length != 8:
        raise DatasetError(f"a brush's rle must have values of 8 bits, got {length}")
    lengths = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    start = 0
    while start < total:
        repeated = bits.read(1)
        end = start + 1 + bits.read(lengths[bits.read(2)])
        if end > total:
            raise DatasetError("a brush's rle has runs that end behind its image")
        if repeated:
            values[start:end] = bits.read(8)
        else:
            values[start:end] = [bits.read(8) for _ in range(end - start)]
        start = end
    mask: np.ndarray = values.reshape(*size, 4)[:, :, _ALPHA] > 0
    return mask


class _Bits:
    """Reads numbers of any number of bits, the highest bit first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def read(self, bits: int) -> int:
        end = self._place + bits
        if end > 8 * len(self._content):
            raise DatasetError("a brush's rle ends too early")
        first, last = self._place // 8, (end + 7) // 8
        number = int.from_bytes(self._content[first:last], "big") >> (8 * last - end)
        self._place = end
        return number & ((1 << bits) - 1)
