"""Variants of a user's own, in a Python file: GANs, objectives, rules, extractors, data sets.

Only files that the sweep file or the command line names are run, never one that results name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensgan import zoo
from ensgan.data.registry import DATASETS
from ensgan.downstream import STRATEGIES
from ensgan.embedding import EXTRACTORS
from ensgan.errors import InputError, unknown_name
from ensgan.registry import Registry
from ensgan.search import FORMS, RULES

_PLACES: Mapping[tuple[str, str], Registry[Any]] = {
    ("dataset", "name"): DATASETS,
    ("embed", "extractor"): EXTRACTORS,
    ("search", "objectives"): FORMS,
    ("select", "rule"): RULES,
    ("evaluate", "strategies"): STRATEGIES,
}
"""Where a sweep file may write ``FILE.py:NAME``, and what NAME then is."""
_KINDS = tuple(_PLACES.values())


def load_plugin(path: Path) -> tuple[str, ...]:
    """Run a plugin file; names of the variants of every kind that it adds.

    Raises:
        InputError: it is missing, fails, or adds nothing.
    """
    return zoo.load_plugin(path, _KINDS)


def own_variant(reference: str, registry: Registry[Any], folder: Path) -> tuple[str, Path] | None:
    """The variant that ``FILE.py:NAME`` stands for: its own name, and the file; None for a name.

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
    module = vars(zoo.plugin_module(path))
    if attribute not in module:
        public = [name for name in module if not name.startswith("_")]
        raise InputError(f"{file}: {unknown_name('name', attribute, public)}")
    name = registry.adopt(module[attribute])
    if name is None:
        raise InputError(f"{reference}: is no {registry.kind} but {module[attribute]!r}"[:300])
    return name, path


def name_of_variant(text: str, registry: Registry[Any], folder: Path = Path()) -> str:
    """A name as it is, ``FILE.py:NAME`` as the name of the variant that it defines.

    Raises:
        InputError: as :func:`own_variant`.
    """
    found = own_variant(text, registry, folder)
    return text if found is None else found[0]


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
        found = [(isinstance(v, str) and own_variant(v, registry, folder)) or None for v in values]
        files += [str(each[1]) for each in found if each]
        names = [each[0] if each else v for each, v in zip(found, values, strict=True)]
        part[key] = names if isinstance(part[key], list) else names[0]
    return list(dict.fromkeys(files))
