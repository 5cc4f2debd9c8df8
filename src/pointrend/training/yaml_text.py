"""YAML of settings: plain values without references, so that nothing is larger than its text."""

from __future__ import annotations

from typing import Any

import yaml

from pointrend.errors import printable, shown

MAX_CHARACTERS = 100_000
"""Maximum length of a text; recipes have one or two thousand characters."""
MAX_DEPTH = 20
"""Maximum nesting of lists and sections."""


class YamlError(ValueError):
    """A text that is no YAML of settings; one short line."""


def read_yaml(text: str) -> object:
    """Return the value that a text stands for.

    Raises:
        YamlError: it is not YAML, too long or too deeply nested, repeats a key, or has anchors (`&a`, `*a`).
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"expected at most {MAX_CHARACTERS} characters, got more")
    try:
        return yaml.load(text, Loader=_Settings)  # derives from the safe loader
    except YamlError:
        raise
    # Besides errors of YAML: impossible dates, and numbers with too many digits, end in errors of Python.
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise YamlError(f"not YAML ({printable(' '.join(str(error).split()), length=200)})") from error


class _Settings(yaml.SafeLoader):
    """Refuses references, repeated keys and deep nesting."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node after a look at its event."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            line = event.start_mark.line + 1
            raise YamlError(f"line {line} refers to another value by & or *; settings must be written out")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_yaml_int(self, node: Any) -> int:
        """Construct an integer that fits 64 bits, as seeds and counts must."""
        value = int(super().construct_yaml_int(node))
        if abs(value) >= 2**63:
            raise YamlError(f"line {node.start_mark.line + 1} has an integer beyond 2^63: {shown(value, length=40)}")
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Construct a dict, whose keys must differ."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key.value, str)):
            if key.value in seen:
                raise YamlError(f"line {key.start_mark.line + 1} gives {printable(key.value)} a second time")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Settings.add_constructor("tag:yaml.org,2002:int", _Settings.construct_yaml_int)
