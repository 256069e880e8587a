"""Sweeps that cannot begin, and sweeps in which something breaks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home
from tiny_sweep import tiny, write_sweep

import ensgan.registry as plugin_files
from ensgan import downstream, files, zoo
from ensgan.config import parse_spec
from ensgan.errors import ConfigError, EnsganError, InputError, StoreError
from ensgan.launch import sweep as launch
from ensgan.sweep.events import Event
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.planning import cost
from ensgan.zoo import table


def test_all_problems_with_the_data_come_before_training(home: Home) -> None:
    spec = parse_spec(tiny(name="bad", train={"batch": 64, "d_updates": 5}))
    with pytest.raises(ConfigError) as caught:
        home.run(spec)
    assert "SNGAN" in str(caught.value) and "ACGAN-Mod" in str(caught.value)
    assert not (home.path / "sweeps" / "bad").exists()


def test_a_full_disk_is_noticed_before_training(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "free_bytes", lambda path: 1 << 20)
    with pytest.raises(InputError, match=r"needs about .* MB more and .* has 1 MB free"):
        home.run(parse_spec(tiny(name="full")))
    assert not (home.path / "sweeps" / "full" / "manifest.json").exists()


def test_a_disk_that_fills_up_stops_the_sweep_which_goes_on_later(home: Home) -> None:
    spec = parse_spec(tiny(name="filled", train={"steps": 4}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "is_full", lambda folder: True)

        def cut_off(*_: object) -> None:
            raise RuntimeError("[enforce fail at inline_container.cc:672]")

        patch.setattr("torch.save", cut_off)
        with pytest.raises(StoreError, match=r"resume\.pt: No space left on device; make room"):
            home.run(spec)
    assert [event.kind for event in home.events if event.kind == "failed"] == []
    manifest = json.loads((home.path / "sweeps" / "filled" / "manifest.json").read_text())
    assert manifest["status"] == "running" and manifest["failed"] == {}
    assert len(home.run(spec).members) == 4


def test_one_failing_gan_does_not_stop_the_others(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.gans, "_variants", dict(table.gans._variants))
    monkeypatch.setattr(plugin_files, "_plugins", dict(plugin_files._plugins))
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "import dataclasses\n"
        "from ensgan import zoo\n"
        "row = zoo.get('SNGAN')\n"
        "adam = dataclasses.replace(row.optimiser.generator, learning_rate=1e30)\n"
        "zoo.register(dataclasses.replace(row, name='Exploding',\n"
        "    optimiser=dataclasses.replace(row.optimiser, generator=adam)))\n"
    )
    path = write_sweep(
        tmp_path,
        name="failing",
        train={"gans": ["SNGAN", "Exploding"], "steps": 4, "plugins": ["broken.py"]},
    )
    result = home.run(path)
    assert [member.name for member in result.members] == ["SNGAN@2", "SNGAN@4"]
    assert "Exploding" in result.failed["Exploding"]
    with pytest.raises(EnsganError, match="only 0 members"):
        home.run(path, settings=["name=none", "train.gans=[Exploding]"])


def test_a_gan_whose_weights_are_no_numbers_does_not_enter_the_pool(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table.gans, "_variants", dict(table.gans._variants))
    row = zoo.get("SNGAN")
    adam = dataclasses.replace(row.optimiser.generator, learning_rate=2e5)
    optimiser = dataclasses.replace(row.optimiser, generator=adam, discriminator=adam)
    zoo.register(dataclasses.replace(row, name="Blown", optimiser=optimiser))
    spec = parse_spec(tiny(name="blown", train={"gans": ["Blown"], "steps": 20, "width": 0.0625}))
    with pytest.raises(EnsganError, match="only 0 members") as caught:
        home.run(spec)
    assert "Blown@10 cannot join the pool: non-finite weights" in str(caught.value)
    folder = home.path / "sweeps" / "blown"
    assert SweepFolder(folder).read().members == {}
    assert not (folder / "members").exists()


@pytest.mark.parametrize("address", ["file:///tmp/mlruns", "./mlruns"])
def test_an_address_that_can_be_no_store_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    file = write_bank_sweep(tmp_path)
    events: list[Event] = []
    arguments: dict[str, Any] = {"storage": tmp_path / "runs", "address": None}
    with pytest.raises(InputError, match="is no tracking address"):
        launch.run_sweep(
            file, settings=[f"track.uri={address}"], on_event=events.append, **arguments
        )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(InputError, match="is no tracking address"):
        launch.run_sweep(file, on_event=events.append, **arguments)
    assert events == []


def test_a_deleted_experiment_is_refused_before_any_work(home: Home, tmp_path: Path) -> None:
    class Deleted(type(home.store)):
        def prepare(self) -> None:
            raise InputError("experiment 'ensgan' has been deleted")

    other = Home(tmp_path / "runs")
    other.store = Deleted()
    with pytest.raises(InputError, match="has been deleted"):
        other.run(write_bank_sweep(tmp_path))
    assert [event.kind for event in other.events if event.kind == "member"] == []


def test_classifiers_libraries_are_there_before_the_recorders_thread_begins(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that import scikit-learn and SciPy at once can end in a deadlock error."""
    order = []

    class Ordered(type(home.store)):
        def prepare(self) -> None:
            order.append("store")
            super().prepare()

    monkeypatch.setattr(home, "store", Ordered())
    for module in (launch, downstream):
        monkeypatch.setattr(module, "import_libraries", lambda: order.append("libraries"))
    home.run(parse_spec(tiny(name="order", train={"gans": ["SNGAN"], "steps": 2})))
    assert order[0] == "libraries" and "store" in order[1:]
