"""A small HTTP service over :meth:`Ensemble.sample`, with limits on size, time and connections.

It makes images for one request at a time; a few others wait, and further ones are refused at once
(503). uvicorn bounds the number of connections. Two guards are our own because uvicorn has none,
and without them a handful of clients locks all others out: hanging up on clients that never finish
their headers or never read their answer, and a limit on the size and time of a body.
"""

from __future__ import annotations

import asyncio
import hmac
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import h11
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from ensgan import __version__
from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.members import ImageRequest
from ensgan.errors import DataError, EnsganError, problem_of
from ensgan.files import parse_json
from ensgan.types import Samples
from ensgan.types.display import png_base64

LARGEST_BODY: Final = 1 << 20
"""Bytes of a request."""
PATIENCE: Final = 10.0
"""Seconds a client may take for its headers, for its body, and for reading on."""
MOST_CONNECTIONS: Final = 256
MOST_WAITING: Final = 64
"""Requests for images that wait for their turn."""


class SampleRequest(ImageRequest):
    """What to make."""

    model_config = ConfigDict(strict=True)

    format: Literal["json", "npz"] = Field(
        "json", description="PNG images in JSON, or an .npz file with images, labels, members."
    )


def refused(status: int, reason: str) -> HTTPException:
    """A refusal; the client must not send more of what was too long or too slow."""
    close = {"Connection": "close"}
    headers = {
        401: {"WWW-Authenticate": "Bearer"},
        408: close,
        413: close,
        503: {"Retry-After": "5"},
    }
    return HTTPException(status, reason, headers.get(status))


class Service:
    """What each address of the service answers.

    Args:
        token: needed as ``Authorization: Bearer TOKEN`` where images or scores are given; None for
            none.
        largest: images a request may ask for.
    """

    def __init__(self, ensemble: Ensemble, token: str | None, largest: int) -> None:
        self._ensemble = ensemble
        self._token = token
        self._largest = largest
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def health(self) -> dict[str, str]:
        """Whether the service runs."""
        return {"status": "ok"}

    async def describe(self, request: Request) -> dict[str, Any]:
        """Members, classes, scores and licences."""
        self._check_token(request)
        more = {"largest_request": self._largest, "licences": self._ensemble.manifest.licences}
        return {**self._ensemble.facts(), **more}

    async def sample(self, request: Request) -> Response:
        """Make images."""
        self._check_token(request)
        content_type = request.headers.get("content-type", "").partition(";")[0]
        if content_type.strip().lower() != "application/json":
            raise refused(415, "send JSON with 'Content-Type: application/json'")
        try:
            body = await _body(request)
            wanted = SampleRequest.model_validate_json(body)
            parse_json(body, "the request")  # a key that occurs twice, pydantic takes
        except ValidationError as error:
            raise refused(422, problem_of(error.errors()[0])) from error
        except DataError as error:
            raise refused(422, str(error)) from error
        if wanted.n > self._largest:
            raise refused(422, f"n is {wanted.n}, at most {self._largest} images per request")
        if self._waiting > MOST_WAITING:
            raise refused(503, f"{MOST_WAITING} requests are waiting already: try again later")
        self._waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(self._make, wanted)
        except EnsganError as error:
            raise refused(422, str(error)) from error
        finally:
            self._waiting -= 1

    def _check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode()
        if self._token is not None and not hmac.compare_digest(
            given, f"Bearer {self._token}".encode()
        ):
            raise refused(401, "send the token as 'Authorization: Bearer TOKEN'")

    def _make(self, wanted: SampleRequest) -> Response:
        samples = self._ensemble.sample(**wanted.model_dump(exclude={"format"}))
        if wanted.format == "npz":
            return Response(_npz(samples), media_type="application/octet-stream")
        members = [] if samples.members is None else samples.members.tolist()
        return JSONResponse(
            {
                "images": list(map(png_base64, samples.to_pil())),
                "labels": samples.labels.tolist(),
                "members": [samples.member_names[member] for member in members],
            }
        )


def make_app(
    ensemble: Ensemble,
    *,
    token: str | None = None,
    largest: int = 256,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "[::1]"),
) -> FastAPI:
    """The service: ``GET /health``, ``GET /ensemble``, ``POST /sample`` and ``/openapi.json``.

    Args:
        token, largest: see :class:`Service`.
        hosts: names in the ``Host`` header that are answered, against rebound host names.
    """
    # FastAPI's pages of documentation would load their scripts from another host.
    app = FastAPI(
        title="ensgan",
        version=__version__,
        description="Synthetic images; research only, not for clinical use.",
        docs_url=None,
        redoc_url=None,
    )
    service = Service(ensemble, token, largest)
    plain: dict[str, Any] = {"response_model": None}
    app.get("/health", **plain)(service.health)
    app.get("/ensemble", **plain, responses=_ANSWERS)(service.describe)
    made: dict[int | str, dict[str, Any]] = {200: _MADE, **_ANSWERS}
    described = _described_body(ensemble, largest)
    app.post("/sample", **plain, responses=made, openapi_extra=described)(service.sample)

    @app.exception_handler(HTTPException)
    async def answer(request: Request, refusal: HTTPException) -> Response:
        return JSONResponse({"error": refusal.detail}, refusal.status_code, refusal.headers)

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


class ImpatientProtocol(H11Protocol):
    """Hangs up on clients that never finish their headers, or never read their answer.

    uvicorn itself waits for both without end, so that a few idle connections could use up all that
    the service accepts.
    """

    _watch: asyncio.TimerHandle
    _state: tuple[bool, int] = (False, 0)

    def connection_made(self, transport: Any) -> None:
        """A client has connected; from now on it is looked at twice per patience."""
        super().connection_made(transport)
        self._watch = self.loop.call_later(PATIENCE / 2, self._look)

    def _look(self) -> None:
        # The answer's bytes that the client has not taken: fewer each time where it reads at all.
        state = (self.conn.their_state is h11.IDLE, self.transport.get_write_buffer_size())
        still_no_headers = state[0] and self._state[0]
        if still_no_headers or (state[1] and state[1] == self._state[1]):
            self.transport.abort()
            return
        self._state = state
        self._watch = self.loop.call_later(PATIENCE / 2, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._watch.cancel()
        super().connection_lost(exc)


def server_for(app: Any, host: str, port: int) -> uvicorn.Server:
    """The server of a service, bounded in connections and in patience with each."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=ImpatientProtocol,
            ws="none",
            log_level="error",
            access_log=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=5,
            server_header=False,
        )
    )


async def _body(request: Request) -> bytes:
    """The body of a request, within its bounds of size and time."""
    body = bytearray()

    async def read() -> None:
        async for piece in request.stream():
            body.extend(piece)
            if len(body) > LARGEST_BODY:
                raise refused(413, f"the request is longer than {LARGEST_BODY} bytes")

    try:
        await asyncio.wait_for(read(), PATIENCE)
    except asyncio.TimeoutError as error:
        raise refused(408, f"the request took longer than {PATIENCE:g} seconds") from error
    except ClientDisconnect as error:  # the client has gone: no error of the service
        raise refused(400, "the client left") from error
    return bytes(body)


_MADE: Final = {
    "description": "The images, in the form that was asked for",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "Unknown host name"},
    401: {"description": "Missing or wrong token"},
    408: {"description": "The request came too slowly"},
    413: {"description": "The request is too long"},
    415: {"description": "The body is not JSON"},
    422: {"description": "The request cannot be met"},
    503: {"description": "Too many requests are waiting"},
}


def _described_body(ensemble: Ensemble, largest: int) -> dict[str, Any]:
    """The request as OpenAPI describes it, with this ensemble's and this service's limits."""
    schema = SampleRequest.model_json_schema()
    fields = schema["properties"]
    fields["n"]["maximum"] = largest
    labels = next(option for option in fields["labels"]["anyOf"] if option["type"] == "array")
    labels.update(minItems=1, maxItems=largest)
    labels["items"].update(minimum=0, maximum=len(ensemble.class_names) - 1)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _npz(samples: Samples) -> bytes:
    with tempfile.TemporaryDirectory(prefix="ensgan-serve-") as folder:
        path = Path(folder) / "samples.npz"
        samples.save(path)
        return path.read_bytes()
