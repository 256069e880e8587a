"""A local Ray without the helper processes that a sweep never talks to.

``ray.init(include_dashboard=False)`` still starts a dashboard server (with one module), an
autoscaler monitor, a log monitor and a full dashboard agent, and waits for the first: seconds of
start-up and four Python processes. Ray has no setting against them, so their starters are replaced
while a session starts. Only names that this Ray has are touched: where one is missing, Ray starts
as it always does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

_UNUSED_STARTERS = ("start_api_server", "start_monitor", "start_log_monitor")


@contextmanager
def without_helpers() -> Iterator[None]:
    """Let a Ray that starts in the body leave its helpers out."""
    from ray._private import node, utils

    with ExitStack() as stack:
        for name in _UNUSED_STARTERS:
            if hasattr(node.Node, name):
                stack.enter_context(patch.object(node.Node, name, _nothing))
        # The agent is part of every raylet; told that its extras are missing it stays small.
        if hasattr(utils, "get_dashboard_dependency_error"):
            stack.enter_context(patch.object(utils, "get_dashboard_dependency_error", _missing))
        yield


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _missing() -> ImportError:
    return ImportError("not wanted in a local session")
