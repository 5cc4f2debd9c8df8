"""Exit codes, and errors as one line on stderr."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pointrend.errors import PointRendWarning

FAILED = 1
"""Exit code if an input failed."""
WRONG_USAGE = 2
"""Exit code if the arguments are invalid."""
STOPPED = 75
"""Exit code if SIGTERM ended a training, which can go on: what sysexits.h calls a temporary failure."""
INTERRUPTED = 130

USER_ERRORS = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)


@contextmanager
def noticed() -> Iterator[None]:
    """Print notices of the package within the block as one line on stderr; Python would add a line of code."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, PointRendWarning):
                report(" ".join(str(message).split()), kind="note")
            else:
                before(message, category, *rest, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", PointRendWarning)
        yield


@contextmanager
def one_line_errors(*, code: int = FAILED) -> Iterator[None]:
    """End the program with one line on stderr and an exit code if the block raises one of `USER_ERRORS`.

    `main` wraps every command in it; within a command, `one_line_errors(code=WRONG_USAGE)` wraps the code that checks
    arguments. Other exceptions are bugs and pass through.
    """
    try:
        yield
    except KeyboardInterrupt:
        report("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except USER_ERRORS as error:
        report(describe(error))
        raise SystemExit(code) from None


def describe(error: BaseException) -> str:
    """Describe an exception in one line, or in several if it lists many problems."""
    if getattr(error, "many_lines", False):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return " ".join(str(error).split()) or type(error).__name__


def report(message: str, *, kind: str = "error") -> None:
    """Print an error to stderr as one line, or a message of another kind, such as a note."""
    print(f"pointrend: {kind}: {message}", file=sys.stderr, flush=True)
