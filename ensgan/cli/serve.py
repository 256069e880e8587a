"""``ensgan serve``: images over HTTP."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated

import typer

from ensgan.cli.output import warn
from ensgan.cli.runs import SourceArgument, StorageOption, UriOption
from ensgan.errors import InputError
from ensgan.outputs import claim_port


def serve(
    source: SourceArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8800,
    max_images: Annotated[
        int, typer.Option(min=1, help="Images that one request may ask for.")
    ] = 256,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Further host name that requests may use.")
    ] = None,
    storage: StorageOption = None,
    uri: UriOption = None,
) -> None:
    """Serve an ensemble's images over HTTP; /openapi.json says what it answers.

    Any address but this machine's own needs a token in the environment variable ENSGAN_TOKEN;
    put TLS in front of it, the token travels with every request.

    Example: ensgan serve ensemble/ --port 8800
    """
    from ensgan.ensemble import load_ensemble
    from ensgan.ensemble.service import make_app, server_for

    token = os.environ.get("ENSGAN_TOKEN")
    if token is not None and len(token) < 16:
        # An empty one too: whoever sets it means to have one.
        raise InputError(
            "ENSGAN_TOKEN is empty or too short to be a secret: give it 16 signs or more, or "
            "unset it"
        )
    if not is_loopback(host):
        if token is None:
            raise InputError(
                f"{host} can be reached from other machines: set ENSGAN_TOKEN to a secret, or "
                "listen on 127.0.0.1"
            )
        warn(f"listening on {host}: the token is not encrypted, put TLS in front")
    claim_port(host, port)
    ensemble = load_ensemble(source, storage=storage, uri=uri)
    shown = f"[{host}]" if ":" in host else host
    hosts = ["localhost", "127.0.0.1", "[::1]", shown, *(allow_host or ())]
    app = make_app(ensemble, token=token, largest=max_images, hosts=hosts)
    typer.echo(f"Serving {len(ensemble)} members at http://{shown}:{port} (Ctrl-C to stop)")
    server_for(app, host, port).run()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
