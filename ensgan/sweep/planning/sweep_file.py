"""The sweep file, read together with what it names, and what a continued sweep keeps beside it.

A plugin is a Python file with variants: GANs, objectives, rules, extractors, data sets. Only files
that the sweep file or the command line names are run. Results name files too, but may come from
somebody else: those are never run.

A continued sweep keeps defaults with which it began, and what `ensgan add` brought while it ran. A
sweep file belongs to its owner and is never written to: additions are stored in the manifest and
apply when the same file is run again, until ``--without-added`` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ensgan import config, data, downstream, embedding, zoo
from ensgan.config import KnownNames, SweepSpec
from ensgan.config.vary import Value, check_variation, is_draws
from ensgan.data.registry import DATASETS
from ensgan.ensemble.external import is_file_reference
from ensgan.errors import InputError, unknown_name
from ensgan.registry import Registry, plugin_module
from ensgan.search import FORMS, RULES, rules, samplers
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import EARLIER_DEFAULTS
from ensgan.sweep.planning.variations import configurations
from ensgan.sweep.records import Addition
from ensgan.types import row_of

AnySpec: TypeAlias = SweepSpec | Mapping[str, Any] | Path | str
"""A spec, its mapping, the path of a sweep file, or the name of a shipped one."""
_PLACES: Mapping[tuple[str, str], Registry[Any]] = {
    ("dataset", "name"): DATASETS,
    ("embed", "extractor"): embedding.EXTRACTORS,
    ("search", "objectives"): FORMS,
    ("select", "rule"): RULES,
    ("evaluate", "strategies"): downstream.STRATEGIES,
}
"""Settings that may be written as ``FILE.py:NAME``, and the registry that NAME belongs to."""
_KINDS = tuple(_PLACES.values())


def known_names() -> KnownNames:
    """Names by kind, as :func:`ensgan.config.load_spec` checks them."""
    return {
        "dataset": data.names(),
        "GAN": zoo.names(),
        "field of a part": {key for name in zoo.names() for key in zoo.get(name).settings()},
        "extractor": embedding.EXTRACTORS.names(),
        "sampler": samplers(),
        "form of the objectives": FORMS.names(),
        # The part before a colon: ``random:K`` is ``random``.
        "rule": tuple(dict.fromkeys(name.partition(":")[0] for name in rules())),
        "strategy": downstream.STRATEGIES.names(),
    }


def load_sweep(source: AnySpec, settings: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file, or take its mapping; variants of its plugins are registered first.

    A spec is returned as it is.

    ``FILE.py:NAME`` where a variant is named makes FILE.py a plugin of the sweep.

    Paths of plugins and members are relative to the sweep file (for a mapping, to the current
    folder) and absolute in the spec returned.

    Raises:
        ConfigError: with every problem of the file and the settings.
        InputError: a plugin cannot be loaded.
    """
    if isinstance(source, SweepSpec):
        return source
    source = Path(source) if isinstance(source, str) else source
    folder = source.parent if isinstance(source, Path) else Path()
    tree, named, problems = config.read_spec_tree(source, settings)
    plugins = [str((folder / plugin).resolve()) for plugin in _plugins(tree)]
    # Before names are checked, because plugins define some of them.
    for plugin in plugins:
        load_plugin(Path(plugin))
    plugins = list(dict.fromkeys([*plugins, *replace_references(tree, folder)]))
    spec = config.parse_spec(tree, source=named, known=known_names(), problems=problems)
    return spec.model_copy(
        update={
            "train": spec.train.model_copy(update={"plugins": plugins}),
            "members": [_absolute(member, folder) for member in spec.members],
        }
    )


def _absolute(member: config.ExternalSpec, folder: Path) -> config.ExternalSpec:
    """The member with absolute paths of its images, sweep or generator; plain names stay.

    A sweep can be run again, and its tasks run, from another current folder.
    """
    if member.sweep is not None:
        place = str((folder / member.sweep).resolve()) if "/" in member.sweep else member.sweep
        return member.model_copy(update={"sweep": place})
    if member.images is not None:
        return member.model_copy(update={"images": str((folder / member.images).resolve())})
    place, colon, name = str(member.generator).rpartition(":")
    file = place if colon else name
    if not is_file_reference(file):
        return member
    absolute = f"{(folder / file).resolve()}{f':{name}' if colon else ''}"
    return member.model_copy(update={"generator": absolute})


def _plugins(tree: Mapping[str, Any]) -> list[str]:
    train = tree.get("train")
    plugins = train.get("plugins", []) if isinstance(train, dict) else []
    return [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []


def load_plugin(path: Path) -> tuple[str, ...]:
    """Run a plugin file; returns the names of all variants that it adds.

    Raises:
        InputError: it is missing, fails, or adds nothing.
    """
    return zoo.load_plugin(path, _KINDS)


def own_variant(reference: str, registry: Registry[Any], folder: Path) -> tuple[str, Path] | None:
    """The name and file of the variant that ``FILE.py:NAME`` means; None for a plain name.

    Args:
        folder: what FILE is relative to.

    Raises:
        InputError: the file fails, or does not define NAME as a variant of this kind.
    """
    file, colon, attribute = reference.rpartition(":")
    if not colon or not file.endswith(".py"):
        return None
    path = (folder / file).resolve()
    load_plugin(path)
    module = vars(plugin_module(path))
    if attribute not in module:
        public = [name for name in module if not name.startswith("_")]
        raise InputError(f"{file}: {unknown_name('name', attribute, public)}")
    name = registry.adopt(module[attribute])
    if name is None:
        raise InputError(f"{reference}: is no {registry.kind} but {module[attribute]!r}"[:300])
    return name, path


def name_of_variant(text: str, registry: Registry[Any]) -> str:
    """A name as it is, ``FILE.py:NAME`` as the name of the variant that it defines.

    Raises:
        InputError: as :func:`own_variant`.
    """
    variant = own_variant(text, registry, Path())
    return text if variant is None else variant[0]


def replace_references(tree: dict[str, Any], folder: Path) -> list[str]:
    """Write every ``FILE.py:NAME`` of a sweep's mapping as the variant's name; the files, absolute.

    Raises:
        InputError: as :func:`own_variant`.
    """
    files = []
    for (section, key), registry in _PLACES.items():
        part = tree.get(section)
        if not isinstance(part, dict) or key not in part:
            continue
        values = part[key] if isinstance(part[key], list) else [part[key]]
        variants = [
            (isinstance(v, str) and own_variant(v, registry, folder)) or None for v in values
        ]
        files += [str(each[1]) for each in variants if each]
        names = [each[0] if each else v for each, v in zip(variants, values, strict=True)]
        part[key] = names if isinstance(part[key], list) else names[0]
    return list(dict.fromkeys(files))


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
    checked = config.parse_spec(tree, source="ensgan add", known=known)
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
