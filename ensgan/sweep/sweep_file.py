"""Which names a sweep may use: the registries of all parts, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensgan import data, downstream, embedding, zoo
from ensgan.config import ExternalSpec, KnownNames, SweepSpec, load_spec, read_tree
from ensgan.ensemble.external import is_file_reference
from ensgan.search import FORMS, rules, samplers


def known_names() -> KnownNames:
    """Names by kind, as :func:`ensgan.config.load_spec` checks them."""
    return {
        "dataset": data.names(),
        "GAN": zoo.names(),
        "extractor": embedding.EXTRACTORS.names(),
        "sampler": samplers(),
        "form of the objectives": FORMS.names(),
        "rule": _heads(rules()),
        "strategy": downstream.STRATEGIES.names(),
    }


def load_sweep(path: Path, settings: Sequence[str] = ()) -> SweepSpec:
    """Read a sweep file; GANs of its plugins are registered first, so that they have names.

    Paths of plugins and members are relative to the sweep file and absolute in the spec returned.

    Raises:
        ConfigError: with every problem of the file and the settings.
        InputError: a plugin cannot be loaded.
    """
    plugins = [str((path.parent / plugin).resolve()) for plugin in _plugins(read_tree(path))]
    for plugin in plugins:
        zoo.load_plugin(Path(plugin))
    spec = load_spec(path, settings=settings, known=known_names())
    return spec.model_copy(
        update={
            "train": spec.train.model_copy(update={"plugins": plugins}),
            "members": [_absolute(member, path.parent) for member in spec.members],
        }
    )


def _absolute(member: ExternalSpec, folder: Path) -> ExternalSpec:
    """Its images or the file of its generator, seen from anywhere; modules keep their name."""
    if member.images is not None:
        return member.model_copy(update={"images": str((folder / member.images).resolve())})
    place, colon, name = str(member.generator).rpartition(":")
    file = place if colon else name
    if not is_file_reference(file):
        return member
    found = f"{(folder / file).resolve()}{f':{name}' if colon else ''}"
    return member.model_copy(update={"generator": found})


def _plugins(tree: dict[str, Any]) -> list[str]:
    train = tree.get("train")
    plugins = train.get("plugins", []) if isinstance(train, dict) else []
    return [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list) else []


def _heads(names: Sequence[str]) -> tuple[str, ...]:
    """The part of each name before a colon (``random:K`` → ``random``)."""
    return tuple(dict.fromkeys(name.partition(":")[0] for name in names))
