"""The sweep file, read together with what it names, such as a user's own plugins.

A plugin is a Python file with variants: GANs, objectives, rules, extractors, data sets. Only files
that the sweep file or the command line names are run. Results name files too, but may come from
somebody else: those are never run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ensgan import config, data, downstream, embedding, zoo
from ensgan.data.registry import DATASETS
from ensgan.ensemble.external import is_file_reference
from ensgan.errors import InputError, unknown_name
from ensgan.registry import Registry, plugin_module
from ensgan.search import FORMS, RULES, rules, samplers

AnySpec: TypeAlias = config.SweepSpec | Mapping[str, Any] | Path | str
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


def known_names() -> config.KnownNames:
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


def load_sweep(source: AnySpec, settings: Sequence[str] = ()) -> config.SweepSpec:
    """Read a sweep file, or take its mapping; variants of its plugins are registered first.

    A spec is returned as it is.

    ``FILE.py:NAME`` where a variant is named makes FILE.py a plugin of the sweep.

    Paths of plugins and members are relative to the sweep file (for a mapping, to the current
    folder) and absolute in the spec returned.

    Raises:
        ConfigError: with every problem of the file and the settings.
        InputError: a plugin cannot be loaded.
    """
    if isinstance(source, config.SweepSpec):
        return source
    source = Path(source) if isinstance(source, str) else source
    folder = source.parent if isinstance(source, Path) else Path()
    tree, problems = config.read_spec_tree(source, settings)
    plugins = [str((folder / plugin).resolve()) for plugin in _plugins(tree)]
    # Before names are checked, because plugins define some of them.
    for plugin in plugins:
        load_plugin(Path(plugin))
    plugins = list(dict.fromkeys([*plugins, *replace_references(tree, folder)]))
    spec = config.parse_spec(
        tree, source=config.spec_source(source), known=known_names(), problems=problems
    )
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
