"""A local Ray without the helper processes that a sweep never talks to.

``ray.init(include_dashboard=False)`` still starts a dashboard server (with one module), a
dashboard agent, an autoscaler monitor and a log monitor, and waits for two of them: seconds of
start-up, four Python processes, and on a busy machine the end (the raylet aborts when the agent
has not reported its ports within 15 s). Ray has no setting against them, so their starters are
replaced while a session starts. Only names that this Ray has are touched: where one is missing,
Ray starts as it always does.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest.mock import patch

_UNUSED_STARTERS = ("start_api_server", "start_monitor", "start_log_monitor")
_AGENT_PORTS = (
    "DASHBOARD_AGENT_LISTEN_PORT_NAME",
    "METRICS_AGENT_PORT_NAME",
    "METRICS_EXPORT_PORT_NAME",
)
_AGENT = "--dashboard_agent_command="
_NO_PORT = -1
"""What Ray's own minimal agent reports."""


@contextmanager
def without_helpers() -> Iterator[None]:
    """Let a Ray that starts in the body leave its helpers out."""
    from ray._private import node, services

    with ExitStack() as stack:
        for name in _UNUSED_STARTERS:
            if hasattr(node.Node, name):
                stack.enter_context(patch.object(node.Node, name, _nothing))
        starts = all(
            hasattr(owner, name)
            for owner, name in ((node.Node, "start_raylet"), (services, "start_ray_process"))
        )
        if starts and _knows_ports():
            stack.enter_context(
                patch.object(node.Node, "start_raylet", _agentless(node.Node.start_raylet))
            )
            stack.enter_context(
                patch.object(
                    services, "start_ray_process", _waiting_agent(services.start_ray_process)
                )
            )
        yield


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _knows_ports() -> bool:
    import ray._raylet as raylet

    return all(hasattr(raylet, name) for name in (*_AGENT_PORTS, "persist_port"))


def _agentless(start: Callable[..., Any]) -> Callable[..., Any]:
    """Say for the agent that it serves nothing, and choose the port of the one that is needed."""

    def start_raylet(self: Any, *arguments: Any, **options: Any) -> Any:
        raylet: Any = importlib.import_module("ray._raylet")
        for name in _AGENT_PORTS:
            raylet.persist_port(
                self.get_session_dir_path(), self._node_id, getattr(raylet, name), _NO_PORT
            )
        with suppress(AttributeError):
            self._ray_params.runtime_env_agent_port = _free_port()
        return start(self, *arguments, **options)

    return start_raylet


def _waiting_agent(start: Callable[..., Any]) -> Callable[..., Any]:
    """Put a process in the agent's place that ends when the raylet's pipe does."""

    def start_ray_process(command: list[str], *arguments: Any, **options: Any) -> Any:
        replaced = [f"{_AGENT}cat" if word.startswith(_AGENT) else word for word in command]
        return start(replaced, *arguments, **options)

    return start_ray_process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
