"""Variants of one kind by name: those built in, and those that installed packages add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Generic, TypeVar

from ensgan.errors import InputError, unknown_name

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
