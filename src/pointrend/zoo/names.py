"""The names of weights without what wrappers of networks put before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

from pointrend.errors import printable
from pointrend.zoo.rules import RULES, our_name

Value = TypeVar("Value")

# Of parallel and compiled networks, of trainers, and of averaged weights (EMA). Longer ones first.
PREFIXES = ("_orig_mod.", "model_ema.", "ema_model.", "module.", "model.", "ema.", "ema_")
MAX_PREFIXES = 8
"""Maximum number of prefixes of a name."""
COUNTERS = frozenset({"n_averaged", "steps", "updates", "num_updates"})
"""Numbers that averaged networks keep beside their weights."""
COMPILED = "_orig_mod."
"""Stands inside of a name where a part of the network was compiled."""


def plain_names(tensors: Mapping[str, Value]) -> tuple[dict[str, Value], list[str]]:
    """Return weights without prefixes, and notices of what was left off or left out, each a line.

    Of two copies of the same weights, as a training with averages writes them, the one without `ema` is taken.
    Names that are no copy of others keep their prefixes, so that they are reported as unknown.
    """
    groups: dict[str, dict[str, str]] = {}
    counters: list[str] = []
    for name in tensors:
        prefix, rest = _split(name)
        if rest in COUNTERS:
            counters.append(name)
        else:
            group = groups.setdefault(prefix, {})
            group[name if rest in group else rest] = name
    if not groups or (set(groups) == {""} and not counters and all(map(str.__eq__, groups[""], groups[""].values()))):
        return dict(tensors), []
    best = min(groups, key=lambda prefix: (-_known(groups[prefix]), "ema" in prefix, len(prefix)))
    plain = groups[best]
    notices = [f"the names begin with {best!r}, which was left off"] if best else []
    if any(COMPILED in name[len(best) :] for name in plain.values()):
        notices.append(f"{COMPILED!r} inside of names was left off")
    found = {rest: tensors[name] for rest, name in plain.items()}
    flat = {rest.replace(".", "_") for rest in plain}
    for prefix, names in groups.items():
        if prefix == best:
            continue
        copies = sum(rest in plain or rest in flat for rest in names)
        if copies:
            where = f"under {prefix!r}" if prefix else "without a prefix"
            notices.append(f"a second copy of {copies} weights, {where}, was left out")
        found |= {name: tensors[name] for rest, name in names.items() if rest not in plain and rest not in flat}
    if counters:
        notices.append(f"{', '.join(map(printable, counters[:3]))} was left out")
    return found, notices


def _split(name: str) -> tuple[str, str]:
    """Return the prefixes of a name, and the name without them and without marks of compiled parts."""
    rest = name
    for _ in range(MAX_PREFIXES):
        prefix = next((prefix for prefix in PREFIXES if rest.startswith(prefix)), None)
        if prefix is None:
            break
        rest = rest.removeprefix(prefix)
    return name[: len(name) - len(rest)], rest.replace(COMPILED, "")


def _known(names: Mapping[str, str]) -> int:
    """Return how many names are those of the toolbox that most of them are of."""
    return max(Counter(source for name in names for source in RULES if our_name(name, source)).values(), default=0)
