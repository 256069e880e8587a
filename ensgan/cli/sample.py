"""``ensgan sample`` and ``ensgan serve``: an ensemble's images, as files or over HTTP."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from ensgan.cli.output import MOST_IMAGES, ForceOption, JsonOption, emit, lines, warn
from ensgan.cli.runs import SourceArgument, StorageOption, UriOption
from ensgan.errors import InputError
from ensgan.outputs import claim_port, is_loopback
from ensgan.text import counted

_NUMBER = re.compile(r"[0-9]{1,9}")


def sample(
    source: SourceArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A .npz file, or a new folder for image files."),
    ],
    n: Annotated[int | None, typer.Option("-n", help="How many images.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Classes by number or name: one per image ('0,1,1'), or how many of each "
            "('normal:10,opacity:20')."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal images.")] = 0,
    replacement: Annotated[
        bool, typer.Option("--replacement", help="Let a sample bank that runs out repeat images.")
    ] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", help="npz, png or dicom.  [default: by the output's name]"),
    ] = None,
    force: ForceOption = False,
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Make images with an ensemble.

    An .npz file holds images, labels and members. A folder gets a sub-folder per class and
    labels.csv, which says for every image which member made it, from which seed and position.
    DICOM files are Secondary Captures marked as synthetic, with new UIDs and no patient.

    Example: ensgan sample ensemble/ -n 64 --seed 1 -o samples.npz
    """
    from ensgan.ensemble import load_ensemble
    from ensgan.outputs import claim_folder, claim_output

    wanted = None if labels is None else parse_labels(labels, n)
    count = n if wanted is None else len(wanted)
    if count is None:
        raise InputError("say how many images: -n 64, or --labels 0:32,1:32")
    if count > MOST_IMAGES:
        raise InputError(f"{count} images are more than the {MOST_IMAGES} made at once: ask again")
    wanted_form = _image_format(form, output)
    if wanted_form == "npz":
        claim_output(output, inputs=[Path(source)], force=force)
    else:
        claim_folder(output, inputs=[Path(source)])
    ensemble = load_ensemble(source, storage=storage, uri=uri)
    samples = ensemble.sample(count, wanted, seed, replacement=replacement)
    if wanted_form == "npz":
        samples.save(output)
    else:
        ensemble.save(output, samples, seed=seed, form=wanted_form)
    makers = [] if samples.members is None else samples.members.tolist()
    made = {name: makers.count(index) for index, name in enumerate(samples.member_names)}
    value = {"output": str(output), "images": count, "seed": seed, "key": samples.key, "by": made}
    emit(value, as_json=json, table=lambda: lines(value))


def _image_format(form: str | None, output: Path) -> Literal["npz", "png", "dicom"]:
    """What ``sample`` writes: ``.npz`` means npz, a folder png unless another form is named."""
    if output.suffix not in ("", ".npz"):
        raise InputError(
            f"'{output}' is neither an .npz file nor a folder: name one of them (--format png or "
            "dicom fills a folder)"
        )
    wanted = form or ("npz" if output.suffix else "png")
    for known in ("npz", "png", "dicom"):
        if wanted == known and (known == "npz") == bool(output.suffix):
            return known
    if wanted in ("npz", "png", "dicom"):
        place = "an .npz file" if wanted == "npz" else "a folder"
        raise InputError(f"--format {wanted} goes to {place}, not to '{output}': rename the output")
    raise InputError(f"unknown --format '{wanted}': use npz, png or dicom")


def parse_labels(text: str, n: int | None) -> list[str | int]:
    """Classes from ``0,1,1``, ``0:10,1:20`` or ``normal:10,opacity:20``; names stay as they are.

    Raises:
        InputError: the text has another form, or gives another number of labels than ``n``.
    """
    labels: list[str | int] = []
    for part in text.split(","):
        label, colon, times = part.strip().rpartition(":")
        if not colon:
            label, times = times, "1"
        # Whole numbers of few digits: Python refuses to read those of thousands.
        is_number = _NUMBER.fullmatch(label) is not None
        if not label or (label.lstrip("-").isdecimal() and not is_number) or not times.isdecimal():
            raise InputError(
                f"'{part}' is no label: write classes as 0,1,1 or as class:how-many, normal:10,1:20"
            )
        count = int(times[:9])
        if len(times) > 9 or len(labels) + count > MOST_IMAGES:
            raise InputError(f"'{part[:40]}' asks for more than 10 million images at once")
        labels += [int(label) if is_number else label] * count
    if n is not None and len(labels) != n:
        raise InputError(f"--labels names {len(labels)} images but -n asks for {n}: drop one")
    return labels


def serve(
    source: SourceArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8800,
    max_images: Annotated[
        int, typer.Option(min=1, max=MOST_IMAGES, help="Images that one request may ask for.")
    ] = 256,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host name that requests may use; repeatable.")
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
        # An empty one is refused too, since setting it shows that a token is wanted.
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
    typer.echo(
        f"Serving {counted(len(ensemble), 'member')} at http://{shown}:{port} (Ctrl-C to stop)"
    )
    server_for(app, host, port).run()
