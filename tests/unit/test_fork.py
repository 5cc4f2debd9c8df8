"""A process that is forked after a prediction predicts too, where PyTorch alone would wait for ever."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, sys
import numpy as np, torch
import pointrend

torch.set_num_threads(2)
model = pointrend.load_model("people-lite0")
image = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
expected = model.predict(image).labels

def child():
    sys.exit(0 if (model.predict(image).labels == expected).all() else 1)

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
process.kill()
print("code", process.exitcode)
"""


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_predicts() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout == "code 0\n", done.stderr
    assert "was forked from one that had predicted, and computes on one thread" in done.stderr
