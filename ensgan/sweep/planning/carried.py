"""What a continued sweep keeps although its file does not say so.

These are defaults with which it began, and what `ensgan add` brought while it ran. A sweep file
belongs to its owner and is never written to: additions are stored in the manifest and apply when
the same file is run again, until ``--without-added`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensgan import zoo
from ensgan.config import KnownNames, SweepSpec, parse_spec
from ensgan.config.vary import Value, check_variation, is_draws
from ensgan.errors import InputError
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import EARLIER_DEFAULTS
from ensgan.sweep.records import Addition
from ensgan.sweep.variations import configurations
from ensgan.types import row_of


class AlreadyThereError(InputError):
    """The sweep already has all that is to be added."""


def carried_on(
    spec: SweepSpec, folder: SweepFolder, *, without_added: bool = False
) -> tuple[SweepSpec, list[str]]:
    """The spec of a continued sweep, and a sentence for each thing that it keeps.

    A setting that the file leaves open keeps the default with which the sweep began: an update of
    ensgan that changes a default must not make every member anew.

    Args:
        spec: of the sweep's file.
        folder: of the sweep.
        without_added: leave out what was added while it ran.

    Raises:
        DataError: the folder's manifest cannot be used.
        InputError: what was added does not go together with the file.
    """
    if not folder.has_begun:
        return spec, []
    before = folder.read()
    then, kept, remarks = before.settings, [], []
    for section, defaults in EARLIER_DEFAULTS.items():
        settings = getattr(spec, section)
        # Settings that the file leaves open, were the default then, and have another default now.
        same = {
            name: value
            for name, value in defaults.items()
            if name not in settings.model_fields_set
            and value == getattr(getattr(then, section), name) != getattr(settings, name)
        }
        kept += [f"{section}.{name} {value}" for name, value in same.items()]
        spec = spec.model_copy(update={section: settings.model_copy(update=same)})
    if kept:
        remarks.append(
            f"sweep '{folder.path.name}' began with {' and '.join(kept)}, which were defaults "
            "then, and keeps them: name others in its file, or with --set, to change that"
        )
    added = [] if without_added else [each for each in before.additions if lacks(spec, each)]
    for addition in added:
        try:
            spec = with_addition(spec, addition)
        except InputError as error:
            raise InputError(
                f"sweep '{folder.path.name}' was given {addition} while it ran, which its file "
                f"does not allow any more ({error}): leave it out with --without-added"
            ) from error
    if added:
        remarks.append(
            f"sweep '{folder.path.name}' was given {' and '.join(map(str, added))} while it ran "
            "(`ensgan add`), and keeps that: write it into its file too, or leave it out "
            "with --without-added"
        )
    return spec, remarks


def lacks(spec: SweepSpec, addition: Addition) -> bool:
    """Whether an addition would change the spec."""
    try:
        with_addition(spec, addition)
    except AlreadyThereError:
        return False
    except InputError:
        return True
    return True


def with_addition(
    spec: SweepSpec, addition: Addition, known: KnownNames | None = None
) -> SweepSpec:
    """The spec with one more GAN, or with one more variation of every GAN.

    Args:
        spec: of a sweep.
        addition: to grids it adds a value of each setting, in every combination with the others;
            to a list a variant, to draws (``sample``) the number of them.
        known: names to check against; None checks the form only.

    Raises:
        AlreadyThereError: nothing of it is new.
        InputError: it cannot be added, in one sentence.
    """
    changes: dict[str, Any] = {}
    if addition.gan is not None:
        gans = zoo.names() if spec.train.gans == "all" else spec.train.gans
        if addition.gan in gans:
            raise AlreadyThereError(f"{addition.gan} is in the sweep already")
        changes["gans"] = [*gans, addition.gan]
    if addition.vary:
        if not is_draws(spec.train.vary):  # of draws only the number can change, checked below
            check_variation(addition.vary, (known or {}).get("field of a part"))
        changes["vary"] = _varied(spec, addition.vary)
    # Parsed like a file, so that an addition is refused for the same reasons as in the file.
    tree = spec.model_dump(mode="json")
    tree["train"] |= changes
    checked = parse_spec(tree, source="ensgan add", known=known)
    return spec.model_copy(update={"train": checked.train})


def _varied(spec: SweepSpec, values: Mapping[str, Value]) -> Any:
    """``train.vary`` with values of settings added."""
    tree, twice = spec.train.vary, f"the sweep varies {Addition(vary=dict(values))} already"
    if tree is None:
        tree = [{"seed": 0}]  # the plain training becomes the first variant, and keeps its name
    if isinstance(tree, list):
        if any({**variant, "name": None} == {**values, "name": None} for variant in tree):
            raise AlreadyThereError(twice)
        return [*tree, dict(values)]
    if is_draws(tree):
        sample = values.get("sample")
        if set(values) != {"sample"} or type(sample) is not int:
            raise InputError(
                f"the sweep draws its variations: add draws with --vary sample=N (now "
                f"{tree['sample']}), not {Addition(vary=dict(values))}"
            )
        if sample <= tree["sample"]:
            raise AlreadyThereError(f"the sweep draws {tree['sample']} variations already")
        return {**tree, "sample": sample}
    # A value of a grid is trained in every combination with the others, as if written in the file.
    grid = {key: list(of) for key, of in tree.items()}
    for key, value in values.items():
        present = _own_values(spec, key, value)
        if key not in grid and len(present) > 1:
            raise InputError(
                f"the sweep does not vary {key}, and its GANs do not have one value of it: write "
                f"train.vary.{key} into the sweep's file and run it again when it has ended"
            )
        of = grid.setdefault(key, present)
        if value not in of:
            of.append(value)
    if grid == dict(tree):
        raise AlreadyThereError(twice)
    return grid


def _own_values(spec: SweepSpec, key: str, value: Value) -> list[Any]:
    """The different values that the sweep's GANs have of a setting that nothing varies."""
    # An unvaried variant beside the new one makes each GAN state its own value of the setting.
    train = spec.train.model_copy(update={"vary": [{"seed": 0}, {key: value}]})
    trained, _ = configurations(spec.model_copy(update={"train": train}), many=True)
    plain = [each.values for each in trained if each.name == row_of(each.name)]
    different = dict.fromkeys(values[key] for values in plain if key in values)
    return [list(value) if isinstance(value, tuple) else value for value in different]
