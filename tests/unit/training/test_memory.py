from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pointrend.training.memory import keep_freed_memory


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_freed_memory_is_not_given_back() -> None:
    """Page faults of allocating and freeing 64 MB over and over, in a process of its own."""
    program = """
import resource, sys
from pointrend.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
bytearray(64 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytes(bytearray(64 << 20))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", program, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "usual")
    }
    assert faults["keep"] < 0.5 * faults["usual"]


def test_elsewhere_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
