"""What running a sweep file would do where its sweep has run before; nothing is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ensgan import train
from ensgan.errors import ConfigError
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.opening import Changes, changes_of, training_folders
from ensgan.sweep.resolving import Resolved
from ensgan.types import MemberId

NAMES_SHOWN = 12
"""Members that a sentence names."""


@dataclass(frozen=True)
class Outlook:
    """What is left to do.

    Attributes:
        sentences: what would be done; empty for a sweep that has not begun.
        missing: members that would be made; those with a snapshot on disk are not among them.
        steps: to train, by GAN; those without any are left out.
    """

    sentences: tuple[str, ...]
    missing: tuple[str, ...]
    steps: Mapping[str, int] = field(default_factory=dict)


def look_ahead(resolved: Resolved, folder: SweepFolder, *, retrain: bool = False) -> Outlook:
    """Compare a sweep file with what its folder holds.

    Raises:
        ConfigError: it would be refused; says why.
        DataError: the folder's manifest cannot be used.
    """
    steps, trained = _steps_left(resolved, folder)
    if not folder.has_begun:
        return Outlook((), resolved.names, steps)
    before = folder.read()
    changes = changes_of(folder, before, resolved)
    try:
        changes.require(folder, retrain=retrain)
    except ConfigError as error:
        raise ConfigError(f"refused because {error.source}", error.problems) from error
    made = trained | {name for name, member in before.members.items() if member.is_there}
    missing = tuple(name for name in resolved.names if name not in made)
    sentences = list(_sentences(before, changes, missing))
    if folder.is_locked():
        sentences.append("not now: a process runs it")
    nothing = f"nothing to do: '{resolved.spec.name}' is {before.status}"
    return Outlook(tuple(sentences or [nothing]), missing, steps)


def _sentences(before: Manifest, changes: Changes, missing: Sequence[str]) -> Iterable[str]:
    left = [name for name in missing if name not in changes.added]
    if changes.added:
        new = [name for name in changes.added if name in missing]
        known = len(changes.added) - len(new)
        yield f"would add {_counted(changes.added)}" + (
            f", {known} of them trained already" if known else ""
        )
    if left:
        yield f"would make {_counted(left)}, which earlier sessions have left"
    if changes.removed:
        yield f"would take away {_counted(changes.removed)}; their files stay"
    for gan, names in changes.again.items():
        yield f"would train {gan} from its start again for {', '.join(names)}"
    other = [line for line in changes.settings if line.split(".")[0] not in ("train", "members")]
    if other:
        yield f"would run later stages again ({'; '.join(other)})"
    elif before.status == "running" and not left:
        yield "would go on with the stages after training"


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) + ", …" * (len(names) > NAMES_SHOWN)
    return f"{len(names)} member{'s' * (len(names) != 1)} ({shown})"


def _steps_left(resolved: Resolved, folder: SweepFolder) -> tuple[dict[str, int], set[str]]:
    """Steps that each GAN has still to train, and the members that need none."""
    left: dict[str, int] = {}
    trained: set[str] = set()
    places = training_folders(resolved, folder)
    for gan, place in zip(resolved.configurations, places, strict=True):
        steps = gan.settings.snapshot_steps
        done = {step for step in steps if train.is_finished(place, MemberId(gan.name, step))}
        trained.update(f"{gan.name}@{step}" for step in done)
        missing = [step for step in steps if step not in done]
        if missing:
            again = train.starts_over(place, gan.name, gan.settings)
            before = 0 if again else max((s for s in done if s < missing[0]), default=0)
            left[gan.name] = missing[-1] - before
    return left, trained
