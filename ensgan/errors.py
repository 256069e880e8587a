"""The errors ensgan raises on purpose, and the exit code each one stands for."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class EnsganError(Exception):
    """A failure in a run. The message says what was wrong, the offending value and the remedy."""

    exit_code = 1


class InputError(EnsganError):
    """Wrong usage or bad input (file, argument, data set): the user can put it right."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration with one or more problems, all reported at once.

    Attributes:
        problems: one sentence per problem.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(f"{source}: {len(self.problems)} {noun}{listed(self.problems, 40)}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, tuple[str, ...]]]:
        # Exceptions cross process borders under Ray; the default would pass only the message.
        return type(self), (self.source, self.problems)


class DataError(InputError):
    """An image set, feature file or artifact that cannot be used as it is."""


class IntegrityError(InputError):
    """A file whose content is not what its manifest or checksum says."""


class TrainingError(EnsganError):
    """Training cannot go on (a non-finite loss, for example)."""


class StoreError(EnsganError):
    """Writing or reading results failed (tracking server, disk)."""


class SweepStoppedError(EnsganError):
    """A sweep ended because its user asked for it (``ensgan stop``): no failure."""

    exit_code = 0


def listed(problems: Sequence[str], most: int) -> str:
    """The first problems on a line each, and how many more there are."""
    rest = [f"and {len(problems) - most} more"] * (len(problems) > most)
    return "".join(f"\n  - {problem}" for problem in [*problems[:most], *rest])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One sentence for a name that does not exist, with the nearest known one.

    Args:
        kind: what is named, e.g. ``"GAN"``.
        name: the name given.
        known: all names that exist.
    """
    options = sorted(known)
    folded = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if near:
        return f"unknown {kind} '{name}': did you mean '{folded[near[0]]}'?"
    known_ones = f"known are {', '.join(options)}" if options else "there is none"
    return f"unknown {kind} '{name}': {known_ones}"


def problem_of(item: Mapping[str, Any], key: str | None = None) -> str:
    """An error of pydantic's as a sentence: the key, what is wrong, the value where that helps.

    Args:
        item: one of ``ValidationError.errors()``.
        key: how to write it, instead of as pydantic has it.
    """
    key = ".".join(map(str, item["loc"])) if key is None else key
    where = f"{key[:200]}: " if key else ""
    if item["type"] == "missing":
        return f"{key} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{where}{message}"
    return f"{where}{message[0].lower()}{message[1:]}, not {shown(item['input'])}"


def shown(value: Any) -> str:
    """A value as it may stand in a message: at most 100 signs, whatever it is."""
    shortened = reprlib.Repr()
    shortened.maxlevel, shortened.maxdict, shortened.maxlist = 3, 5, 5
    shortened.maxstring = shortened.maxother = 80
    try:
        text = shortened.repr(value)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else text[:97] + "…"


def last_line(error: BaseException | str | None) -> str:
    """The last line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
