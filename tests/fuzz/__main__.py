"""Read thousands of damaged files, and report every answer that is not one line for the user.

    python -m tests.fuzz --seed 1 --scale 0.1 --kinds image,coco

Ends with 1 if a case raised another error than a `PointRendError`, or one without the file's name, with more than 1,000
characters or with control characters, took more than 10 seconds, or ended the process. Bad files stay in fuzz-out/.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.cases import KINDS
from tests.fuzz.worker import fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of cases")
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"))
    arguments = parser.parse_args()
    counts = {kind: max(1, round(arguments.scale * KINDS[kind][1])) for kind in arguments.kinds.split(",")}
    start = time.monotonic()
    failures = fuzz(counts, arguments.seed, arguments.out, seconds=arguments.seconds)
    for line in failures[:200]:
        print(ascii(line)[1:-1])
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{listed}: {len(failures)} failed, in {time.monotonic() - start:.0f} s, --seed {arguments.seed}")
    if failures:
        print(f"their files are in {arguments.out}")
        sys.exit(1)


if __name__ == "__main__":
    main()
