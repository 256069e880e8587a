"""Variants of one kind by name: those built in, those of installed packages and of plugin files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from ensgan.errors import InputError, unknown_name
from ensgan.files import sha256_file
from ensgan.inputs import run_python

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of variants, for example the selection rules.

    A package outside ensgan adds variants through an entry point of the registry's group; the
    entry point names a variant, several of them, or a function that returns either. They are
    loaded when a name is asked for that is not built in, and when all names are.

    Args:
        kind: what one variant is called in messages, e.g. ``"selection rule"``.
        group: group of entry points, e.g. ``"ensgan.rules"``.
        value_type: the class of a variant.
        builtin: the variants that ensgan brings, in the order they are listed.
        name_of: gives a variant's name; its attribute ``name`` by default.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        value_type: type[T],
        builtin: Iterable[T] = (),
        *,
        name_of: Callable[[T], str] = attrgetter("name"),
    ) -> None:
        self.kind = kind
        self.group = group
        self._type = value_type
        self._name_of = name_of
        self._variants: dict[str, T] = {}
        self._entry_points_loaded = False
        for variant in builtin:
            self.register(variant)

    def register(self, variant: T) -> T:
        """Add a variant under its name, and return it.

        Raises:
            InputError: it is of another class, or the name is taken (in any spelling of case).
        """
        if not isinstance(variant, self._type):
            raise InputError(f"a {self.kind} is a {self._type.__name__}, not {variant!r}")
        name = self._name_of(variant)
        taken = {known.casefold(): known for known in self._variants}
        if name.casefold() in taken:
            raise InputError(
                f"there is already a {self.kind} named '{taken[name.casefold()]}': "
                "choose another name"
            )
        self._variants[name] = variant
        return variant

    def adopt(self, value: object) -> str | None:
        """Register a variant that is not here yet; None for anything else.

        Raises:
            InputError: its name is taken.
        """
        if not isinstance(value, self._type):
            return None
        if not any(value is known for known in self._variants.values()):
            self.register(value)
        return self._name_of(value)

    def names(self) -> tuple[str, ...]:
        """All names, the built-in ones first."""
        self._load_entry_points()
        return tuple(self._variants)

    def get(self, name: str) -> T:
        """The variant of that name.

        Raises:
            InputError: there is none; the message names the nearest.
        """
        if name not in self:
            raise InputError(unknown_name(self.kind, name, self._variants))
        return self._variants[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._variants:
            self._load_entry_points()
        return name in self._variants

    def __iter__(self) -> Iterator[T]:
        self._load_entry_points()
        return iter(tuple(self._variants.values()))

    def __len__(self) -> int:
        return len(self.names())

    def forget(self, names: Iterable[str]) -> None:
        """Take variants out again (those of a plugin file that failed half-way)."""
        for name in names:
            del self._variants[name]

    def _load_entry_points(self) -> None:
        if self._entry_points_loaded:
            return
        from importlib.metadata import entry_points  # not before: 25 ms of every start

        self._entry_points_loaded = True  # first: a variant's own module may ask for a name
        for point in entry_points(group=self.group):
            try:
                for variant in self._variants_of(point.load()):
                    self.register(variant)
            except Exception as error:
                self._entry_points_loaded = False
                raise InputError(
                    f"entry point '{point.name}' of {self.group} ({point.value}) failed: "
                    f"{type(error).__name__}: {error}; repair or uninstall the package"
                ) from error

    def _variants_of(self, loaded: Any) -> list[T]:
        """What an entry point names: a variant, several, or a function that returns them."""
        if callable(loaded) and not isinstance(loaded, self._type):
            loaded = loaded()
        return [loaded] if isinstance(loaded, self._type) else list(loaded or ())


_plugins: dict[str, tuple[str, ...]] = {}


def load_plugin(path: Path, registries: Sequence[Registry[Any]]) -> tuple[str, ...]:
    """Run a user's Python file that adds variants; the names it added.

    Loading the same file again changes nothing.

    Args:
        registries: the file registers variants of the first by itself; the others take what it
            defines of their kind.

    Raises:
        InputError: the file is missing, fails, or registers nothing; nothing is added then.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"no such plugin file: {path}")
    key = sha256_file(path)
    if key in _plugins:
        return _plugins[key]
    before = [set(registry.names()) for registry in registries]

    def added() -> Iterator[tuple[Registry[Any], str]]:
        for registry, known in zip(registries, before, strict=True):
            yield from ((registry, name) for name in registry.names() if name not in known)

    try:
        module = run_python(path, _module_name(key))
        for value in list(vars(module).values()):
            for registry in registries[1:]:
                registry.adopt(value)
    except (Exception, SystemExit) as error:
        for registry, name in list(added()):
            registry.forget([name])
        sys.modules.pop(_module_name(key), None)
        raise InputError(f"plugin {path} failed: {type(error).__name__}: {error}") from error
    names = tuple(name for _, name in added())
    if not names:
        kinds = " or ".join(registry.kind for registry in registries)
        raise InputError(
            f"plugin {path} registers no {kinds}: call ensgan.zoo.register(GANSpec(…)), for example"
        )
    _plugins[key] = names
    return names


def plugin_module(path: Path) -> ModuleType:
    """The module of a file that :func:`load_plugin` has run."""
    return sys.modules[_module_name(sha256_file(path))]


def _module_name(key: str) -> str:
    return f"ensgan_plugin_{key[:12]}"
