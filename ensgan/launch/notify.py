"""One message to a web address when a sweep has ended, well or badly."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ensgan.errors import EnsganError, InputError, SweepStoppedError
from ensgan.outputs import is_loopback
from ensgan.sweep.events import Event, OnEvent, warning
from ensgan.text import hide_credentials

ANSWER_SECONDS = 10.0


def check_address(url: str) -> None:
    """Refuse an address to which the message would travel unencrypted.

    Raises:
        InputError: neither https nor http on this machine's loopback.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError("--notify is no valid address: check its host and port") from error
    if host and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return
    raise InputError(
        f"--notify '{_shown(url)}': write https://…, or http:// with an address of this machine's "
        "loopback"
    )


def _shown(url: str) -> str:
    """The host of an address, without the path, which is the secret of many services."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" if parts.scheme else "…"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Sends the message only to the address that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@contextmanager
def notifying(
    url: str | None, name: str, on_event: OnEvent
) -> Iterator[tuple[dict[str, Any], OnEvent]]:
    """Post one JSON object when the body ends: ``sweep``, ``state`` (finished, failed, stopped,
    interrupted), ``host``, ``seconds``, ``error``, and what the body has put into the dictionary
    it is given.

    Args:
        url: where to; None posts nothing.
        name: of the sweep, until an event tells its folder.
        on_event: warned of a message that did not arrive, which is no failure of the sweep. The
            body gets another listener, which passes its events on to this one.
    """
    began = time.time()
    value: dict[str, Any] = {"sweep": name, "state": "finished", "host": socket.gethostname()}

    def listen(event: Event) -> None:
        if event.kind == "folder":
            value["sweep"] = Path(event.fields["path"]).name
        on_event(event)

    try:
        yield value, listen
    except SweepStoppedError as error:
        value |= {"state": "stopped", "error": str(error)}
        raise
    except KeyboardInterrupt:
        value["state"] = "interrupted"
        raise
    except Exception as error:
        kind = "" if isinstance(error, EnsganError) else f"{type(error).__name__}: "
        value |= {"state": "failed", "error": hide_credentials(f"{kind}{error}")}
        raise
    finally:
        if url is not None:
            _post(url, {**value, "seconds": round(time.time() - began, 1)}, on_event)


def _post(url: str, value: Mapping[str, Any], on_event: OnEvent) -> None:
    body = json.dumps(value, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    handlers: list[Any] = [_NoRedirect]
    if url.startswith("http:"):  # loopback, which must not go through a proxy
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=ANSWER_SECONDS):
            return
    except (OSError, ValueError) as error:  # HTTPError is an OSError
        reason = hide_credentials(str(error), url)
        on_event(warning(f"{_shown(url)} was not told how the sweep ended: {reason}"))
