"""Reading YAML within limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml

from ensgan.errors import ConfigError

MAX_NODES = 100_000
"""Most values a text may stand for, aliases written out."""
MAX_DEPTH = 50

# What PyYAML raises for values that look like a date, a number or a tag and are none.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no key twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        counts = Counter(key for key in keys if isinstance(key, str))
        repeated = sorted(key for key, count in counts.items() if count > 1)
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {', '.join(map(repr, repeated))} occurs twice",
                node.start_mark,
            )  # fmt: skip
        return super().construct_mapping(node, deep)


def read_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: a single document.
        source: where it comes from, for messages.

    Raises:
        ConfigError: not YAML, a key twice, nested too deeply, or aliases that stand for more than
            :data:`MAX_NODES` values.
    """
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _require_small(node, source)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(source, [f"is not YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError(source, [f"is nested deeper than {MAX_DEPTH} levels"]) from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(source, [f"holds a value that cannot be read: {reason[:200]}"]) from error


def _require_small(root: yaml.Node, source: str) -> None:
    """Refuse aliases that write out to very much: nine levels of nine make 400 million values.

    A node that several aliases share is counted once and its size added for each use, so that the
    count takes time in proportion to the text.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ConfigError(source, [f"is nested deeper than {MAX_DEPTH} levels"])
        if id(node) not in sizes:
            sizes[id(node)] = MAX_NODES  # an alias of itself: no end
            if isinstance(node, yaml.MappingNode):
                inner = [part for pair in node.value for part in pair]
            else:
                inner = node.value if isinstance(node, yaml.SequenceNode) else []
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in inner)
        return sizes[id(node)]

    if size(root, 0) >= MAX_NODES:
        raise ConfigError(
            source, [f"stands for more than {MAX_NODES:,} values: aliases repeat one another"]
        )
