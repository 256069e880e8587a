"""``ensgan init``: a first sweep file for some data on this machine, each value with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from ensgan.cli.data import AcceptOption, SettingOption, SizeOption, parse_options
from ensgan.cli.first_sweep import Machine, propose, to_tree, to_yaml
from ensgan.cli.output import JsonOption, check_output, emit, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

OutputOption: TypeAlias = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write; default: NAME.yaml.")
]
DataDirOption: TypeAlias = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of a named data set's files.")
]
ForceOption: TypeAlias = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]


def init(
    data: Annotated[
        str, typer.Option("--data", metavar="NAME|DIR|FILE.npz", help="The images to learn from.")
    ],
    output: OutputOption = None,
    data_dir: DataDirOption = None,
    image_size: SizeOption = 32,
    accept_checksum: AcceptOption = None,
    option: SettingOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Look at the data and this machine and write a first sweep file with reasons.

    Example: ensgan init --data my-xrays/
    """
    from ensgan.config import parse_spec
    from ensgan.data import check, load_dataset
    from ensgan.files import write_bytes
    from ensgan.sweep.inputs import known_names
    from ensgan.text import printable

    # A sweep file may lie among the data; anything else there is data.
    check_output(output, inputs=(Path(data), data_dir), is_ours=_is_sweep_file)
    _require_new(output, force)
    options = parse_options(option or [])
    if accept_checksum is not None:
        options["accept_checksum"] = accept_checksum
    source = locate(data, data_dir, options)
    with progress("reading", "images") as report_progress:
        dataset = load_dataset(
            source["name"],
            root=None if source["data_dir"] is None else Path(source["data_dir"]),
            image_size=image_size,
            options=source["options"],
            on_progress=report_progress,
        )
    report = check(dataset, near=False)
    choices = propose(dataset, source, this_machine())
    text = to_yaml(choices)
    spec = parse_spec(to_tree(choices), source="the proposed sweep", known=known_names())
    path = output or Path(f"{spec.name}.yaml")
    _require_new(path, force)
    write_bytes(path, text.encode())
    value = {
        "path": printable(str(path)),
        "spec": to_tree(choices),
        "reasons": {choice.key: choice.reason for choice in choices if choice.reason},
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
    emit(value, as_json=json, table=lambda: _shown(path, text, report.problems, report.notes))


def _is_sweep_file(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")


def _require_new(path: Path | None, force: bool) -> None:
    from ensgan.errors import InputError
    from ensgan.inputs import kind

    if path is not None and kind(path) != "absent" and not force:
        raise InputError(f"{path} exists: name another file with -o, or overwrite it with --force")


def locate(
    data: str, data_dir: Path | None, options: dict[str, bool | int | float | str | None]
) -> dict[str, Any]:
    """How a sweep names the data: ``name``, ``data_dir`` and ``options`` of its dataset section.

    Raises:
        InputError: neither a registered name nor an existing folder or file.
    """
    from ensgan.data import names
    from ensgan.data.medmnist import parse_file_name, refuse_volumes
    from ensgan.errors import DataError, unknown_name
    from ensgan.inputs import kind
    from ensgan.text import printable

    if data in names():
        folder = None if data_dir is None else str(data_dir)
        return {"name": data, "data_dir": folder, "options": options}
    path = Path(data).expanduser()
    found = kind(path)
    if found != "absent" and printable(str(path.resolve())) != str(path.resolve()):
        raise DataError(f"{path.resolve()} is not a UTF-8 name: rename it")
    if found == "folder":
        name = "aiforcovid" if _has_prognosis_table(path) else "folder"
        return {"name": name, "data_dir": str(path.resolve()), "options": options}
    if found == "file" and path.suffix == ".npz":
        folder = str(path.resolve().parent)
        official = parse_file_name(path.name)
        if official is None:
            options = {"file": path.name, **options}
            return {"name": "npz", "data_dir": folder, "options": options}
        options = {"source_size": official[1], **options}
        return {"name": official[0], "data_dir": folder, "options": options}
    if "/" in data or found != "absent":
        raise DataError(f"{path} is neither a folder nor an .npz file")
    refuse_volumes(data)
    raise DataError(unknown_name("data set", data, names()))


def _has_prognosis_table(folder: Path) -> bool:
    """Whether a table at the top has the columns of AIforCOVID."""
    from ensgan.data.table import SUFFIXES, read_table
    from ensgan.errors import DataError

    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        try:
            columns = read_table(path).columns
        except DataError:
            continue
        if {"ImageFile", "Prognosis"} <= set(columns):
            return True
    return False


def this_machine() -> Machine:
    """The cores and GPUs this process may use."""
    import torch

    from ensgan.data.image_files import available_cores

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    memory = [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
    return Machine(available_cores(), count, min(memory, default=0) / 1e9)


def _shown(
    path: Path, text: str, problems: tuple[str, ...], notes: tuple[str, ...]
) -> RenderableType:
    import shlex

    from rich.text import Text

    from ensgan.text import printable

    name = shlex.quote(printable(str(path)))
    said = [f"problem: {problem}" for problem in problems] + [f"note: {note}" for note in notes]
    steps = [
        f"wrote {name}; next:",
        f"  ensgan sweep {name} --dry-run   # what it will take",
        f"  ensgan sweep {name}",
    ]
    return Text("\n".join([text, *said, *steps]))
