"""``ensgan bundle``: the selected outside generators as one ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ensgan.cli.output import JsonOption, emit
from ensgan.cli.pools.pool_images import (
    AcceptOption,
    DataDirOption,
    DataOption,
    RealSource,
    SizeOption,
    read_images,
)
from ensgan.cli.pools.select import RULE_HELP
from ensgan.cli.run_tables import description, lines
from ensgan.cli.runs import StorageOption, UriOption


def bundle(
    front: Annotated[Path, typer.Argument(help="front.json, as 'ensgan search' writes it.")],
    pool: Annotated[Path, typer.Argument(help="The pool of images that was scored.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the ensemble.")],
    scores: Annotated[Path, typer.Option(help="scores.npz of the pool.")] = Path("scores.npz"),
    rule: Annotated[str, typer.Option(help=RULE_HELP)] = "knee",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    image_size: SizeOption = None,
    accept_checksum: AcceptOption = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record it, so that 'ensgan pull RUN' finds it.")
    ] = False,
    name: Annotated[str, typer.Option(help="Name of the recorded run.")] = "outside-generators",
    storage: StorageOption = None,
    uri: UriOption = None,
    json: JsonOption = False,
) -> None:
    """Choose an ensemble of a front and write it as an artifact of sample banks.

    The images are compared with those that were scored, and the artifact is verified. It holds
    images, labels and notes, no code.

    Example: ensgan bundle front.json my-pool/ --scores scores.npz -o ensemble/ --record
    """
    from ensgan.ensemble import is_whole_ensemble, load_ensemble
    from ensgan.outputs import claim_folder
    from ensgan.recording import external_ensemble as outside
    from ensgan.search import select
    from ensgan.types import Front, PoolScores

    claim_folder(output, inputs=[front, pool, scores], is_ours=is_whole_ensemble)
    searched, known = Front.load(front), PoolScores.load(scores)
    selection = select(searched, rule, pool=known)
    images = read_images(pool, RealSource(data, data_dir, image_size, accept_checksum))
    outside.bundle(output, pool=images, scores=known, front=searched, selection=selection)
    value: dict[str, Any] = {
        "folder": str(output),
        "rule": selection.rule,
        "reason": selection.reason,
        **description(load_ensemble(output)),
    }
    if record:
        from ensgan.store import open_store

        value["run_id"] = outside.record_bundle(
            open_store(uri, storage),
            output,
            name=name,
            pool=images,
            front=searched,
            selection=selection,
        )
    emit(value, as_json=json, table=lambda: lines(value))
