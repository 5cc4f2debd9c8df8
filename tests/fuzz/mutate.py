"""Damage to bytes, and to the values of JSON and YAML. All of it follows from a random generator."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

NASTY: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), -0.5, "", " ", "\x1b[2J", "a\nb",
    "../../x", "x" * 5000, "\ud800", [], {}, [None], {"a": 1}, [[]], "0", "NaN", [1, 2], [-1, -1, -1, -1], "\u202e",
)  # fmt: skip
"""Values that a reader may not expect."""


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes with a few changes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(max(1, len(changed)))
        if rng.random() < 0.4:  # headers are where readers can be led astray
            place = min(place, rng.randrange(64))
        kind = rng.randrange(7)
        if kind == 0:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            changed[place : place + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80")
            )
        elif kind == 2:
            del changed[place : place + rng.randrange(1, 40)]
        elif kind == 3:
            changed[place:place] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 4:
            del changed[place:]
        elif kind == 5:
            changed[place:place] = changed[place : place + rng.randrange(1, 200)]
        elif place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def altered(value: Any, rng: random.Random) -> Any:
    """A JSON value with a few parts replaced, removed, repeated or renamed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return rng.choice(NASTY)
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif kind == 2 and isinstance(holder, dict):
            holder[str(rng.choice(("\x1b[2J", "x" * 300, key + "s", "")))] = holder.pop(key)
        elif kind == 3:
            holder[key] = nested(rng.choice((3, 50, 400)))
        elif kind == 4 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = rng.choice((-holder[key], holder[key] * 10**6, holder[key] + 0.5, str(holder[key])))
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
    return value


def json_bytes(value: Any, rng: random.Random) -> bytes:
    """JSON of an altered value; now and then with damaged bytes."""
    try:
        text = json.dumps(altered(value, rng)).encode("utf-8", "replace")
    except (ValueError, RecursionError):  # integers of too many digits
        text = json.dumps(value).encode()
    return damaged(text, rng) if rng.random() < 0.2 else text


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every list and dict with every index and key of it."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        item = level.pop()
        parts = (
            list(item.items()) if isinstance(item, dict) else list(enumerate(item)) if isinstance(item, list) else []
        )
        for key, part in parts:
            found.append((item, key))
            level.append(part)
    return found
