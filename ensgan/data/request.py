"""A data source: its name and options, and what a caller asks of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from ensgan.errors import ConfigError, DataError, problem_of, unknown_name
from ensgan.inputs import inside, kind
from ensgan.types import Dataset

Scalar: TypeAlias = bool | int | float | str | None
ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""

DATA_VARIABLE = "ENSGAN_DATA"
"""Environment variable that names the data folder."""


_RULES = ConfigDict(strict=True, allow_inf_nan=False)

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What a folder, or a cell of a table, that means a split may be called."""


@dataclass(frozen=True)
class Option:
    """One setting of a data source.

    Attributes:
        name, kind, default: its key under ``dataset.options``, its type, its value when unset.
        summary: what it does, for the documentation.
        choices: the permitted values, empty when free.
        minimum, maximum: bounds of numbers.
    """

    name: str
    kind: type[bool] | type[int] | type[float] | type[str]
    default: Scalar
    summary: str
    choices: tuple[Scalar, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def problem(self, value: Scalar) -> str | None:
        """What is wrong with ``value`` as one sentence, or None."""
        allowed: Any = Annotated[self.kind, Field(ge=self.minimum, le=self.maximum)]
        try:
            TypeAdapter(allowed, config=_RULES).validate_python(value)
        except ValidationError as error:
            return problem_of(error.errors()[0], self.name)
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {', '.join(map(str, self.choices))}, not {value!r}"
        return None


@dataclass(frozen=True)
class Request:
    """One call of a data source.

    Attributes:
        name: the registry name, or the name of the file or folder.
        root: the data folder (for a path: the file or folder itself).
        image_size: side of the images wanted, pixels.
        options: the source's settings, complete and checked.
        seed: of random splits and of drawn images.
        on_progress: called with (done, total) during long work.
    """

    name: str
    root: Path
    image_size: int = 32
    options: Mapping[str, Scalar] = field(default_factory=dict)
    seed: int = 0
    on_progress: ReportProgress | None = None

    def option(self, name: str) -> int | float | str:
        """The value of an option that is always set."""
        value = self.options[name]
        if value is None:
            raise DataError(f"{self.name}: option '{name}' must be set")
        return value

    def number(self, name: str) -> int | None:
        """The value of an option of whole numbers, None when unset."""
        value = self.options[name]
        return None if value is None else int(value)

    def place(self, option: str, name: str | None = None) -> Path | None:
        """What an option (or ``name``, made of it) names in the data folder; None when unset.

        Raises:
            DataError: it lies elsewhere.
        """
        name = name or self.text(option)
        if name is None:
            return None
        path = inside(self.root, name)
        if path is None:
            raise DataError(f"option {option} must name something inside {self.root}, not '{name}'")
        return path

    def text(self, name: str) -> str | None:
        """The value of a text option, None when unset."""
        value = self.options[name]
        return None if value is None else str(value)


@dataclass(frozen=True)
class Source:
    """One data set that a sweep can name.

    Attributes:
        name: how a sweep names it.
        summary: one line about it.
        load: makes the data set from a checked request.
        options: the settings it takes.
        needs_root: whether it reads the data folder.
    """

    name: str
    summary: str
    load: Callable[[Request], Dataset]
    options: tuple[Option, ...] = ()
    needs_root: bool = True


def read_options(
    source: str, table: Sequence[Option], options: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Check ``options`` against a source's table and fill in the defaults.

    Raises:
        ConfigError: unknown options, wrong types or values, all at once.
    """
    known = {option.name: option for option in table}
    values = {option.name: option.default for option in table}
    problems = []
    for name, value in options.items():
        if name not in known:
            if known:
                problems.append(unknown_name("option", name, known))
            else:
                problems.append(f"takes no options, but '{name}' is set")
        elif value is not None:
            problem = known[name].problem(value)
            problems += [problem] if problem else []
            values[name] = value
    if problems:
        raise ConfigError(f"dataset.options for {source}", problems)
    return values


def data_root(root: Path | None = None) -> Path:
    """The data folder: ``root``, else ``ENSGAN_DATA``, else ``~/.medmnist`` (created).

    The default is the folder the medmnist package itself uses, so that its files are found.

    Raises:
        DataError: a folder that was named does not exist, or the default cannot be created.
    """
    origin = DATA_VARIABLE if root is None else "--data-dir"
    named = os.environ.get(DATA_VARIABLE) if root is None else root
    if named:
        named = Path(named).expanduser()
        if kind(named) != "folder":
            raise DataError(f"the data folder {named} ({origin}) is not a folder: create it first")
        return named
    default = Path.home() / ".medmnist"
    try:
        default.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot create {default} ({error.strerror}): name a data folder with "
            f"--data-dir or {DATA_VARIABLE}"
        ) from error
    return default


def split_of_folder(name: str) -> str | None:
    """The split that a folder of this name holds (``train``, ``Training_set``), or None."""
    words = re.sub(r"[\W_]+(set|data|images?|split|files)$", "", name.lower())
    return SPLIT_NAMES.get(words)
