"""The GANs known by name: the standard rows, entry points and plugin files."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from ensgan.errors import InputError, unknown_name
from ensgan.files import sha256_file
from ensgan.zoo.spec import GANSpec

ENTRY_POINT_GROUP = "ensgan.gans"

_rows: dict[str, GANSpec] = {}
_plugins: dict[str, tuple[str, ...]] = {}


def register(spec: GANSpec) -> GANSpec:
    """Make a row known by its name.

    Raises:
        InputError: another row has that name.
    """
    if not isinstance(spec, GANSpec):
        raise InputError(f"register takes a GANSpec, not {spec!r}")
    folded = {name.casefold(): name for name in _rows}
    if spec.name.casefold() in folded:
        raise InputError(
            f"there is already a GAN named '{folded[spec.name.casefold()]}': choose another name"
        )
    _rows[spec.name] = spec
    return spec


def names() -> tuple[str, ...]:
    """All known names, the standard rows first, in the order they were registered."""
    _load_entry_points()
    return tuple(_rows)


def get(name: str) -> GANSpec:
    """The row of that name.

    Raises:
        InputError: there is none; the message names the nearest.
    """
    _load_entry_points()
    if name not in _rows:
        raise InputError(unknown_name("GAN", name, _rows))
    return _rows[name]


def load_plugin(path: Path) -> tuple[str, ...]:
    """Run a user's Python file that calls :func:`register`; the names it added.

    Loading the same file again changes nothing.

    Raises:
        InputError: the file is missing, fails, or registers nothing; nothing is added then.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"no such plugin file: {path}")
    key = sha256_file(path)
    if key in _plugins:
        return _plugins[key]
    module_name = f"ensgan_plugin_{key[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: a plugin ends in .py")
    before = set(_rows)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        _forget(before)
        del sys.modules[module_name]
        raise InputError(f"plugin {path} failed: {type(error).__name__}: {error}") from error
    added = tuple(name for name in _rows if name not in before)
    if not added:
        raise InputError(f"plugin {path} registers no GAN: call ensgan.zoo.register(GANSpec(…))")
    _plugins[key] = added
    return added


def _forget(kept: Iterable[str]) -> None:
    for name in set(_rows) - set(kept):
        del _rows[name]


@functools.cache
def _load_entry_points() -> None:
    """Load every installed package's rows: a GANSpec, several of them, or a function to call."""
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            value = point.load()
            if callable(value):
                value = value()
            rows = [value] if isinstance(value, GANSpec) else list(value or ())
            for row in rows:
                register(row)
        except Exception as error:
            raise InputError(
                f"entry point '{point.name}' of {ENTRY_POINT_GROUP} ({point.value}) failed: "
                f"{type(error).__name__}: {error}; repair or uninstall the package"
            ) from error
