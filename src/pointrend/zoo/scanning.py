"""What can be seen of a pickle before it is opened: where it ends, and that opening it would not crash."""

from __future__ import annotations

import pickletools
from typing import BinaryIO

MAX_DEPTH = 100
"""Levels of lists, tuples and calls in each other; checkpoints have less than ten."""


class RefusedError(ValueError):
    """A pickle asks for what no checkpoint needs; the message names it."""


def scan(file: BinaryIO) -> None:
    """Read over a pickle without executing it, and leave the file behind it.

    Raises:
        RefusedError: it numbers its objects so that loading it would take memory, or nests them so deep that hashing
            them would overflow the stack of the interpreter.
        ValueError: it is no pickle, or ends too early.
    """
    depths = _Depths()
    for count, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            assert isinstance(argument, int)
            if not 0 <= argument <= count:
                raise RefusedError("more memory than the file has bytes")
        depths.step(code, argument)


class _Depths:
    """The unpickler's stack and memo, with a number in the place of each object: how deep it is nested, at most.

    What can be hashed cannot change once it is made, and what is called returns nothing deeper than its arguments: so
    no tuple is deeper than its number says. That of a list or dict may be too small (they grow through the memo), but
    those are not hashed.
    """

    def __init__(self) -> None:
        self._stack: list[int | None] = []  # None is a mark
        self._memo: dict[object, int] = {}

    def step(self, code: pickletools.OpcodeInfo, argument: object) -> None:
        """Do with the numbers what the opcode does with the objects.

        Raises:
            RefusedError: it makes something that is nested too deep.
            ValueError: it takes objects that are not there.
        """
        if code.name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo.get(argument, 0))
        elif code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            (top,) = self._pop(1)
            self._stack.append(top)
            self._memo[len(self._memo) if code.name == "MEMOIZE" else argument] = top
        elif code.name == "POP" and self._stack and self._stack[-1] is None:
            self._stack.pop()
        elif code.name == "MARK":
            self._stack.append(None)
        else:
            self._combine(code)

    def _combine(self, code: pickletools.OpcodeInfo) -> None:
        """Most opcodes take objects, or all down to a mark and some below it, and leave one that holds them."""
        before = code.stack_before
        taken: list[int] = []
        if pickletools.markobject in before:
            while (depth := self._pop_any()) is not None:
                taken.append(depth)
            before = before[: before.index(pickletools.markobject)]
        below = self._pop(len(before))
        if code.name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"):
            # The container is there already, and no deeper for each item.
            made = max([below[0], *(depth + 1 for depth in (*below[1:], *taken))])
        else:
            made = max((depth + 1 for depth in (*below, *taken)), default=0)
        if made > MAX_DEPTH:
            raise RefusedError(f"objects nested more than {MAX_DEPTH} deep")
        self._stack += [made] * len(code.stack_after)

    def _pop(self, count: int) -> list[int]:
        """The topmost numbers, the lowest first."""
        found = [self._pop_any() for _ in range(count)][::-1]
        if None in found:
            raise ValueError("an object is missing before a mark")
        return [depth for depth in found if depth is not None]

    def _pop_any(self) -> int | None:
        if not self._stack:
            raise ValueError("an object is missing")
        return self._stack.pop()
