"""The table of named variants that every registry of ensgan is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from ensgan.errors import InputError
from ensgan.registry import Registry


@dataclass(frozen=True)
class Colour:
    name: str


def colours(*names: str) -> Registry[Colour]:
    return Registry("colour", "ensgan.test_colours", Colour, [Colour(name) for name in names])


RED = Colour("red")


def two_more() -> list[Colour]:
    return [Colour("blue"), Colour("cyan")]


def failing() -> list[Colour]:
    raise ValueError("no paint")


def offer(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [
        EntryPoint(f"point{n}", value, "ensgan.test_colours") for n, value in enumerate(values)
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)


def test_names_keep_their_order_and_unknown_ones_name_the_nearest() -> None:
    table = colours("green", "amber")
    assert table.names() == ("green", "amber")
    assert [colour.name for colour in table] == ["green", "amber"]
    assert table.get("amber") == Colour("amber")
    with pytest.raises(InputError, match="unknown colour 'gren': did you mean 'green'"):
        table.get("gren")


@pytest.mark.parametrize("again", ["green", "GREEN"])
def test_a_name_is_given_once(again: str) -> None:
    with pytest.raises(InputError, match="already a colour named 'green'"):
        colours("green").register(Colour(again))


def test_another_class_is_refused() -> None:
    with pytest.raises(InputError, match="a colour is a Colour, not 3"):
        colours().register(3)  # type: ignore[arg-type]


def test_installed_packages_add_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, f"{__name__}:RED", f"{__name__}:two_more")
    table = colours("green")
    assert "cyan" in table
    assert table.names() == ("green", "red", "blue", "cyan")
    table.forget(["red"])
    assert "red" not in table


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, f"{__name__}:failing")
    table = colours("green")
    assert table.get("green") == Colour("green")  # built in: no package is asked
    with pytest.raises(InputError, match=r"'point0' .* failed: ValueError: no paint"):
        table.get("red")
