"""A small HTTP service over :meth:`Ensemble.sample`, bounded in every direction."""

from __future__ import annotations

import asyncio
import base64
import hmac
import io
import tempfile
import threading
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ensgan import __version__
from ensgan.ensemble.docs_page import PAGE_HEADERS, docs_page
from ensgan.ensemble.ensemble import Ensemble
from ensgan.errors import InputError
from ensgan.types import Samples

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]

LARGEST_BODY: Final = 1 << 20
"""Bytes of a request."""
PATIENCE: Final = 10.0
"""Seconds a client may take for the body of its request, all pieces together."""


class SampleRequest(BaseModel):
    """What to make."""

    model_config = ConfigDict(extra="forbid", strict=True)

    n: int = Field(ge=1, description="How many images.")
    labels: list[int] | None = Field(
        None,
        description="The class of each image, n of them; drawn by the training shares when null.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Equal seeds give equal images.")
    replacement: bool = Field(
        False, description="Whether a sample bank that runs out may repeat its images."
    )
    format: Literal["json", "npz"] = Field(
        "json", description="PNG images in JSON, or an .npz file with images, labels, members."
    )


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
        self._one_at_a_time = threading.Lock()

    async def health(self) -> dict[str, str]:
        """Whether the service runs."""
        return {"status": "ok"}

    async def describe(self, request: Request) -> Any:
        """Members, classes, scores and licences."""
        return self._stranger(request) or _description(self._ensemble, self._largest)

    async def sample(self, request: Request) -> Response:
        """Make images."""
        stranger = self._stranger(request)
        if stranger is not None:
            return stranger
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refuse(415, "send JSON with 'Content-Type: application/json'")
        try:
            wanted = SampleRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _refuse(422, _first_problem(error))
        if wanted.n > self._largest:
            return _refuse(422, f"n is {wanted.n}, at most {self._largest} images a request")
        try:
            samples = await run_in_threadpool(self._make, wanted)
        except InputError as error:
            return _refuse(422, str(error))
        if wanted.format == "npz":
            return Response(_npz(samples), media_type="application/octet-stream")
        return JSONResponse(_json(samples))

    def _stranger(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if self._token is None or hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return None
        return _refuse(401, "send the token as 'Authorization: Bearer TOKEN'", **_CHALLENGE)

    def _make(self, wanted: SampleRequest) -> Samples:
        with self._one_at_a_time:
            return self._ensemble.sample(
                wanted.n, wanted.labels, wanted.seed, replacement=wanted.replacement
            )


def make_app(
    ensemble: Ensemble,
    *,
    token: str | None = None,
    largest: int = 256,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "[::1]"),
) -> FastAPI:
    """The service: ``GET /health``, ``GET /ensemble``, ``POST /sample``, and a page at ``/docs``.

    Args:
        token, largest: see :class:`Service`.
        hosts: names in the ``Host`` header that are answered, against rebound host names.
    """
    # FastAPI's own pages would load their scripts from another host.
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
    described = _body(ensemble, largest)
    made: dict[int | str, dict[str, Any]] = {200: _MADE, **_ANSWERS}
    app.post("/sample", **plain, responses=made, openapi_extra=described)(service.sample)

    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()), headers=PAGE_HEADERS)

    for address in ("/", "/docs"):
        app.get(address, **plain, include_in_schema=False)(docs)
    app.add_middleware(_Bounds)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    return app


class _Bounds:
    """Refuses requests that are too long (413) or come too slowly (408)."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, status = bytearray(), 0
        more = True
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while more and not status:
            left = deadline - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0))
            except asyncio.TimeoutError:
                status = 408
                break
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > LARGEST_BODY:
                status = 413
        if status:
            await _plain(send, status)
            return
        unread = True

        async def whole() -> _Message:
            nonlocal unread
            if unread:
                unread = False
                return {"type": "http.request", "body": bytes(body), "more_body": False}
            return await receive()

        await self._app(scope, whole, send)


async def _plain(send: _Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    reason = {408: b"the request came too slowly", 413: b"the request is too long"}[status]
    await send({"type": "http.response.body", "body": reason})


_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
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
}


def _refuse(status: int, reason: str, **headers: str) -> Response:
    return JSONResponse({"error": reason}, status, headers)


def _body(ensemble: Ensemble, largest: int) -> dict[str, Any]:
    """The request as OpenAPI describes it, with this ensemble's and this service's limits."""
    schema = SampleRequest.model_json_schema()
    fields = schema["properties"]
    fields["n"]["maximum"] = largest
    labels = next(option for option in fields["labels"]["anyOf"] if option["type"] == "array")
    labels.update(minItems=1, maxItems=largest)
    labels["items"].update(minimum=0, maximum=len(ensemble.class_names) - 1)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def _description(ensemble: Ensemble, largest: int) -> dict[str, Any]:
    manifest = ensemble.manifest
    return {
        "members": dict(zip(ensemble.member_names, ensemble.weights, strict=True)),
        "image": [ensemble.shape.channels, ensemble.shape.size, ensemble.shape.size],
        "classes": list(ensemble.class_names),
        "largest_request": largest,
        "metrics": manifest.metrics,
        "licences": manifest.licences,
    }


def _json(samples: Samples) -> dict[str, Any]:
    from PIL import Image

    pictures = []
    for image in samples.images:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        pictures.append(base64.b64encode(stream.getvalue()).decode())
    members = [] if samples.members is None else samples.members.tolist()
    return {
        "images": pictures,
        "labels": samples.labels.tolist(),
        "members": [samples.member_names[member] for member in members],
    }


def _npz(samples: Samples) -> bytes:
    with tempfile.TemporaryDirectory(prefix="ensgan-serve-") as folder:
        path = Path(folder) / "samples.npz"
        samples.save(path)
        return path.read_bytes()
