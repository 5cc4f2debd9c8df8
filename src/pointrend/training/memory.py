"""Memory settings for training on a CPU."""

from __future__ import annotations

import ctypes
import sys

# The options' numbers in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory instead of returning it to the system; return whether this is possible here.

    Otherwise activations of some ten megabytes are mapped, zeroed page by page and unmapped in every layer of every
    iteration.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _TOP_PAD))
    return all(mallopt(option, value) == 1 for option, value in options)
