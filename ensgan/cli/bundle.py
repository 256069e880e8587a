"""``ensgan bank``, ``ensgan bundle``: from one's own generators to an ensemble of their images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ensgan.cli.catalogue import AcceptOption, DataDirOption
from ensgan.cli.output import MOST_IMAGES, ForceOption, JsonOption, emit, lines, progress, warn
from ensgan.cli.pool import DataOption, RealSource, SizeOption, read_images
from ensgan.cli.run_tables import description
from ensgan.cli.runs import StorageOption, UriOption
from ensgan.cli.select import RULE_HELP
from ensgan.errors import InputError

if TYPE_CHECKING:
    from ensgan.types import Int64Array


def bank(
    generator: Annotated[
        str,
        typer.Argument(
            metavar="GENERATOR",
            help="FILE.py:NAME or package.module:NAME with sample(n, labels, seed), a TorchScript "
            "file (.pt, .ts) with that method, or a torch.export file (.pt2). Its code is run.",
        ),
    ],
    pool: Annotated[
        Path, typer.Option("--pool", "-p", help="Folder of the pool; its images go to fake/NAME.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name in the pool.  [default: the file's]")
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, max=MOST_IMAGES, help="Images.  [default: as many as real ones]"),
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Classes: training (as the real ones), uniform, or 0:100,1:200.")
    ] = "training",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal images.")] = 0,
    batch: Annotated[
        int, typer.Option(min=1, max=MOST_IMAGES, help="Images asked for at once.")
    ] = 64,
    value_range: Annotated[
        str, typer.Option("--range", help="What floats mean: unit (0…1), signed (−1…1) or auto.")
    ] = "auto",
    licence: Annotated[
        str | None, typer.Option(help="Licence of the generator, for the card.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Origin of the generator, for the card.")
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    image_size: SizeOption = None,
    accept_checksum: AcceptOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Run a generator of your own and keep its images as a member of a pool.

    Example: ensgan bank my_diffusion.py:sample --pool my-pool/ --name DDPM --seed 1
    """
    from ensgan import __version__
    from ensgan.data.pool import check_name
    from ensgan.ensemble.external import describe, draw_bank, open_sampler
    from ensgan.report.external_ensemble import add_bank, claim_bank

    chosen = check_name(name or Path(generator.partition(":")[0]).stem.replace(".", "-"))
    claim_bank(pool, chosen, force=force)
    wanted = _labels(pool, RealSource(data, data_dir, image_size, accept_checksum), labels, n, seed)
    sampler = open_sampler(generator)
    with progress("sampling", "images") as report:
        images = draw_bank(
            sampler,
            wanted,
            seed=seed,
            batch=batch,
            value_range=value_range,
            on_progress=report,
        )
    facts: dict[str, Any] = {
        **{key: value for key, value in (("licence", licence), ("source", source)) if value},
        "generator": describe(generator),
        "seed": seed,
        "batch": batch,
        "ensgan": __version__,
    }
    path = add_bank(pool, chosen, images, wanted, facts, force=force)
    value = {"path": str(path), "name": chosen, "images": len(images), "shape": images.shape[1:]}
    emit(value, as_json=json, table=lambda: f"wrote {path}: {len(images)} images of {chosen}")


def _labels(pool: Path, real: RealSource, text: str, n: int | None, seed: int) -> Int64Array:
    """The class of each image to ask for."""
    import numpy as np

    from ensgan.cli.sample import parse_labels
    from ensgan.data.pool import read_real
    from ensgan.sweep.member_job import sample_labels

    if text not in ("training", "uniform"):
        return np.array(parse_labels(text, n), np.int64)
    try:
        samples, names, _ = read_real(pool, dataset=real.dataset(), image_size=real.image_size)
    except InputError as error:
        raise InputError(f"{error}; or say which images to make: --labels 0:100,1:200") from error
    return sample_labels(samples.labels, len(names), n or len(samples), text, seed)


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
    from ensgan.report import external_ensemble as outside
    from ensgan.search import RULES, cautions, member_intra_d, select
    from ensgan.sweep.planning.sweep_file import name_of_variant
    from ensgan.types import Front, PoolScores

    claim_folder(output, inputs=[front, pool, scores], is_ours=is_whole_ensemble)
    searched, known = Front.load(front), PoolScores.load(scores)
    selection = select(searched, name_of_variant(rule, RULES), pool=known)
    images = read_images(pool, RealSource(data, data_dir, image_size, accept_checksum))
    outside.bundle(output, pool=images, scores=known, front=searched, selection=selection)
    value: dict[str, Any] = {
        "folder": str(output),
        "rule": selection.rule,
        "reason": selection.reason,
        "cautions": list(cautions(selection.point, member_intra_d(known))),
        **description(load_ensemble(output)),
    }
    for caution in value["cautions"]:
        warn(caution)
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
