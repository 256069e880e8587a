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
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware

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


def make_app(
    ensemble: Ensemble,
    *,
    token: str | None = None,
    largest: int = 256,
    hosts: Sequence[str] = ("localhost", "127.0.0.1", "[::1]"),
) -> FastAPI:
    """The service: ``GET /health``, ``GET /ensemble``, ``POST /sample``.

    Args:
        token: needed as ``Authorization: Bearer TOKEN`` by all but ``/health``; None for none.
        largest: images a request may ask for.
        hosts: names in the ``Host`` header that are answered, against rebound host names.
    """
    app = FastAPI(title="ensgan", description="Synthetic images; research only, not clinical.")
    one_at_a_time = threading.Lock()

    def refuse(status: int, reason: str, **headers: str) -> Response:
        return JSONResponse({"error": reason}, status, headers)

    def unknown_caller(request: Request) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if token is None or hmac.compare_digest(given, f"Bearer {token}".encode()):
            return None
        return refuse(401, "send the token as 'Authorization: Bearer TOKEN'", **_CHALLENGE)

    def make(wanted: SampleRequest) -> Samples:
        with one_at_a_time:
            return ensemble.sample(
                wanted.n, wanted.labels, wanted.seed, replacement=wanted.replacement
            )

    @app.get("/health", response_model=None)
    async def health() -> dict[str, str]:
        """Whether the service runs."""
        return {"status": "ok"}

    @app.get("/ensemble", response_model=None, responses=_ANSWERS)
    async def describe(request: Request) -> Any:
        """Members, classes, scores and licences."""
        return unknown_caller(request) or _description(ensemble, largest)

    @app.post("/sample", response_model=None, responses=_ANSWERS, openapi_extra=_body())
    async def sample(request: Request) -> Response:
        """Make images."""
        stranger = unknown_caller(request)
        if stranger is not None:
            return stranger
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return refuse(415, "send JSON with 'Content-Type: application/json'")
        try:
            wanted = SampleRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return refuse(422, _first_problem(error))
        if wanted.n > largest:
            return refuse(422, f"n is {wanted.n}, at most {largest} images a request")
        try:
            samples = await run_in_threadpool(make, wanted)
        except InputError as error:
            return refuse(422, str(error))
        if wanted.format == "npz":
            return Response(_npz(samples), media_type="application/octet-stream")
        return JSONResponse(_json(samples))

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
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "Unknown host name"},
    401: {"description": "Missing or wrong token"},
    408: {"description": "The request came too slowly"},
    413: {"description": "The request is too long"},
    415: {"description": "The body is not JSON"},
    422: {"description": "The request cannot be met"},
}


def _body() -> dict[str, Any]:
    schema = SampleRequest.model_json_schema()
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
