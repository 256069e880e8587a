"""How long a client may keep a connection of the service busy without using it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE: Final = 10.0
"""Seconds for a request's headers to arrive, and for an unread answer to be read on."""
MOST_CONNECTIONS: Final = 64


class BoundedConnection(H11Protocol):
    """Hangs up on clients that never finish their headers, or never read their answer.

    uvicorn itself waits for both without end, so that a few idle connections could use up all that
    the service accepts.
    """

    _unfinished: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._unfinished = self.loop.call_later(PATIENCE, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """A piece of a request has come; its headers must be complete in time."""
        super().data_received(data)
        between_requests = self.conn.their_state is h11.IDLE
        if not between_requests and self._unfinished is not None:
            self._unfinished.cancel()
            self._unfinished = None
        elif between_requests and self._unfinished is None:
            self._unfinished = self.loop.call_later(PATIENCE, self.transport.abort)

    def pause_writing(self) -> None:
        """The client reads more slowly than the answer is written."""
        super().pause_writing()
        self._unread = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._forget_unread()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._forget_unread()
        if self._unfinished is not None:
            self._unfinished.cancel()
        super().connection_lost(exc)

    def _forget_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def server_for(app: Any, host: str, port: int) -> uvicorn.Server:
    """The server of a service, bounded in connections and in patience with each."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedConnection,
            ws="none",
            log_level="error",
            access_log=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=5,
            server_header=False,
        )
    )
