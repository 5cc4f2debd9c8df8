"""Read JSON files of others, and the numbers in them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from pointrend.data.problems import DatasetError
from pointrend.errors import printable, shown

_WHOLE = re.compile(r"\s*-?\d{1,18}\s*")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        DatasetError: missing, not a file, or not JSON; one line that names the file.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise DatasetError(f"{path}: cannot be read as JSON (nested too deeply)") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({printable(str(error), length=200)})") from error


def whole(value: object, name: str) -> int:
    """Return a whole number, which may also be written as 3.0 or "3", as tools that convert tables do.

    Raises:
        DatasetError: it is something else; `name` says what it should be.
    """
    if type(value) is int and value.bit_length() < 64:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise DatasetError(f"{name} must be a whole number, got {shown(value)}")


def finite(value: object, name: str) -> float:
    """Return a finite number, which may also be written as text; raise `DatasetError` as `whole` does."""
    if type(value) is int and value.bit_length() < 64:
        return float(value)
    if isinstance(value, (float, str)) and len(str(value)) < 40:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    raise DatasetError(f"{name} must be a finite number, got {shown(value)}")
