"""The gate for files from outside: what a path leads to is known before anything is opened."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_type_hints
from zipfile import ZipInfo

from ensgan.errors import DataError, EnsganError, InputError, listed, problem_of
from ensgan.text import printable

if TYPE_CHECKING:
    from pydantic import BaseModel

_LISTED = 20  # problems of a list that are named
# Deflate reaches 1:1032; images, features and scores stay far below 1:100.
_BOMB_RATIO, _BOMB_BYTES = 100, 256 << 20
_LOOKS, _PAUSE = 5, 0.2  # at the tables of a database; seconds between two
_SURELY_FREE = 16 << 20  # to ask how much is free takes longer than to read so little


def kind(path: Path) -> Literal["file", "folder", "special", "absent"]:
    """What ``path`` leads to, links followed; "special" is a pipe, a socket or a device.

    A name that the system cannot have (too long, a NUL in it, a loop of links) is absent.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return "absent"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "special"


@cache
def _model(kind: Any) -> type[BaseModel]:
    from pydantic import ConfigDict, create_model

    rules = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    hints = get_type_hints(kind, include_extras=True)
    types: Any = {field.name: (hints[field.name], ...) for field in fields(kind)}
    return create_model("Fields", __config__=rules, **types)


def field_problems(value: Any) -> list[str]:
    """Where the fields of a dataclass are not as their annotations want them, a sentence each."""
    from pydantic import ValidationError

    try:
        _model(type(value)).model_validate(vars(value))  # type: ignore[arg-type]
    except ValidationError as error:
        return [problem_of(item) for item in error.errors()]
    return []


def check_fields(value: Any) -> None:
    """Hold the fields of a dataclass against their annotations.

    Raises:
        InputError: with every value that they do not allow.
    """
    if problems := field_problems(value):
        raise InputError("; ".join(problems))


def require_file(path: Path) -> None:
    """Refuse what is not a regular file: a pipe, for example, would be waited for without end.

    Raises:
        DataError: there is nothing, a folder, a pipe, socket or device, or no permission to read.
    """
    there = kind(path)
    if there == "absent":
        raise DataError(f"no such file: {path}")
    if there != "file":
        what = "a folder" if there == "folder" else "a pipe, a socket or a device"
        raise DataError(f"{path} is no plain file but {what}: name a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"no permission to read {path}: change its mode or owner")


def database_path(address: str) -> Path | None:
    """The file behind an address ``sqlite:///FILE``; None for other addresses."""
    scheme, slashes, rest = address.partition(":///")
    if not slashes or scheme.partition("+")[0] != "sqlite":
        return None
    name = rest.partition("?")[0]
    return Path(name) if name not in ("", ":memory:") else None


def require_database(path: Path, tables: Set[str], program: str) -> None:
    """Refuse a file that is no SQLite database of a program: it would add its tables to it.

    Args:
        path: what is new or empty may become one.
        tables: some that every database of the program has.
        program: its name, for the message.

    Raises:
        InputError: it is something else.
    """
    if kind(path) == "absent" or (kind(path) == "file" and not path.stat().st_size):
        return
    require_file(path)
    import sqlite3

    for _ in range(_LOOKS):
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as opened:
                present = {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}
        except sqlite3.OperationalError:  # locked, for example: its own reader says so
            return
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} cannot be used: {error}; name another file") from error
        if not present or tables <= present:
            return
        time.sleep(_PAUSE)  # another process may be making the tables
    raise InputError(f"{path} is a database of another program than {program}: name another")


def require_expansion(path: Path, members: Iterable[ZipInfo], *, to_disk: bool = False) -> None:
    """Refuse an archive that would unpack to far more than it is, or than the memory holds.

    Args:
        path: of the archive.
        members: what is unpacked of it.
        to_disk: into files, so that it may be larger than the memory.

    Raises:
        DataError: with both sizes.
    """
    packed, unpacked = path.stat().st_size, sum(member.file_size for member in members)
    if unpacked > _BOMB_BYTES and unpacked > _BOMB_RATIO * packed:
        raise DataError(
            f"{path} would unpack from {packed / 1e6:.1f} MB to {unpacked / 1e9:.1f} GB: "
            "refused as a zip bomb"
        )
    if not to_disk:
        require_memory(unpacked, str(path))


def require_memory(needed: float, what: str) -> None:
    """Refuse work that needs more memory than is free.

    Args:
        needed: bytes.
        what: what needs them, for the message.

    Raises:
        DataError: with both sizes.
    """
    if needed < _SURELY_FREE:
        return
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{what} needs {needed / 1e9:.1f} GB of memory but {free / 1e9:.1f} GB are available: "
            "use fewer or smaller images, or a larger machine"
        )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn whatever a parser of foreign files stumbles over into a DataError that begins ``what``.

    Parsers of images, DICOM and arrays raise nearly any exception for damaged files (SyntaxError,
    MemoryError and struct.error among them), so none is listed.

    Raises:
        DataError: instead of any exception that is not ensgan's own.
    """
    try:
        yield
    except EnsganError:  # said already; a full disk is no damaged file
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        shown = text if len(text) <= 160 else text[:157] + "…"
        raise DataError(f"{what}: {shown}") from error


def refuse(headline: str, problems: Sequence[str]) -> None:
    """Raise one DataError that lists the problems, the first twenty by name; none passes.

    Raises:
        DataError: there are problems.
    """
    if problems:
        raise DataError(f"{headline}:{listed([*map(_shortened, problems)], _LISTED)}")


def _shortened(problem: str) -> str:
    return problem if len(problem) <= 240 else f"{problem[:160]} … {problem[-60:]}"


def relative(path: Path, root: Path) -> str:
    """``path`` as seen from ``root``, for messages and keys."""
    return printable(str(path.relative_to(root) if path.is_relative_to(root) else path.name))


def inside(root: Path, name: str) -> Path | None:
    """``root/name``, or None when that is not below ``root`` (``..``, absolute, links)."""
    path = root / name
    try:
        within = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        return None
    return path if within and not Path(name).is_absolute() else None


def run_python(path: Path, name: str) -> ModuleType:
    """Run a Python file as the module ``name``; it stays in ``sys.modules`` unless it fails.

    Raises:
        InputError: the file does not end in ``.py``. What its code raises goes to the caller.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        with redirect_stdout(sys.stderr):  # stdout is the command's own
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
