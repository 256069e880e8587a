"""``ensgan merge`` and ``ensgan sync``: what is left to do with finished sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensgan.cli.output import ForceOption, JsonOption, emit
from ensgan.cli.runs import RunArgument, StorageOption


def merge(
    sweeps: Annotated[
        list[str], typer.Argument(metavar="A B …", help="Finished sweeps: names, folders or runs.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Sweep file to write; its name is the sweep's.")
    ],
    storage: StorageOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the sweep file that makes one pool of finished sweeps on the same data.

    Example: ensgan merge ours theirs -o both.yaml && ensgan sweep both.yaml
    """
    import yaml

    from ensgan.config import parse_spec
    from ensgan.files import write_bytes
    from ensgan.outputs import claim_output
    from ensgan.store import default_storage
    from ensgan.sweep.folder import sweep_folder
    from ensgan.sweep.merging.sources import expand, merged_spec

    claim_output(output, force=force)
    root = (storage or default_storage()).resolve()
    tree = merged_spec(sweeps, root, output.stem).model_dump(mode="json", exclude_defaults=True)
    tree["train"] = {"gans": [], **tree.get("train", {})}
    spec = parse_spec(tree, source=str(output))
    members = [member.name for member in expand(spec, sweep_folder(root, spec.name)).members]
    text = f"# Written by `ensgan merge`: {len(members)} members.\n"
    write_bytes(output, (text + yaml.safe_dump(tree, sort_keys=False)).encode())
    emit(
        {"path": str(output), "members": members},
        as_json=as_json,
        table=lambda: f"{output}: {len(members)} members; `ensgan sweep {output}` makes one pool",
    )


def sync(
    name: RunArgument,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a sweep that the tracking store missed; harmless when nothing is missing.

    Example: ensgan sync quickstart
    """
    from ensgan.launch.sweep import sync_sweep

    run_id = sync_sweep(name, storage=storage)
    emit(
        {"name": name, "run_id": run_id},
        as_json=as_json,
        table=lambda: f"sweep '{name}' is recorded as run {run_id}",
    )
