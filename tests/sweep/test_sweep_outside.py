"""Generators trained elsewhere in a sweep's pool, alone and beside the zoo's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from memory_store import MemoryStore
from PIL import Image
from tiny_sweep import files_of, tiny

from ensgan import ensemble
from ensgan.data import load_dataset
from ensgan.errors import ConfigError, InputError
from ensgan.launch import sweep as launch
from ensgan.report.views import description
from ensgan.sweep.events import Event, SweepResult
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.live.status import sweep_status
from ensgan.sweep.planning.sweep_file import load_sweep
from ensgan.types import Samples

OPTIONS = {"n_train": 60, "n_val": 30, "n_test": 30}
GENERATOR = """
from pathlib import Path

import numpy as np


def sample(n, labels, seed):
    with (Path(__file__).with_name("called")).open("a") as file:
        file.write("x")
    noise = np.random.default_rng(seed).normal(0, 25, (n, 32, 32))
    return (60 + 90 * labels[:, None, None] + noise).clip(0, 255).astype("u1")
"""


class Home:
    """Sweep files beside three generators from elsewhere; runs are kept in memory."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        self.path, self.store = path, MemoryStore()
        self.events: list[Event] = []
        patch.setattr(launch, "open_store", lambda *_, **__: self.store)
        patch.setenv("ENSGAN_CACHE", str(path / "cache"))
        first, second = (load_dataset("phantom", options=OPTIONS, seed=s).train for s in (5, 6))
        _pictures(path / "gan-a", first)
        np.savez(path / "gan-b.npz", images=255 - second.images, labels=second.labels)
        (path / "own.py").write_text(GENERATOR)

    def run(self, *members: dict[str, Any], name: str = "outside", **sections: Any) -> SweepResult:
        self.events.clear()
        tree = tiny(
            name=name,
            dataset={"name": "phantom", "options": OPTIONS},
            **{
                "train": {"gans": []},
                "evaluate": {"strategies": ["real", "all", "last", "selected"], "repeats": 1},
                **sections,
            },
        )
        path = self.path / "sweep.yaml"
        path.write_text(yaml.safe_dump({**tree, "members": list(members)}))
        spec = load_sweep(path)
        where = self.path / "runs"
        return launch.run_sweep(spec, storage=where, address=None, on_event=self.events.append)

    @property
    def calls(self) -> int:
        path = self.path / "called"
        return len(path.read_text()) if path.exists() else 0


A = {"name": "GAN-A", "images": "gan-a", "licence": "CC BY-NC 4.0"}
B = {"name": "GAN-B", "images": "gan-b.npz"}
OWN = {"name": "Own", "generator": "own.py:sample", "seed": 3, "source": "a blur"}


def _pictures(folder: Path, samples: Samples) -> None:
    for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        path = folder / ("normal", "opacity")[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield Home(tmp_path_factory.mktemp("home"), patch)


@pytest.fixture(scope="module")
def result(home: Home) -> SweepResult:
    return home.run(A, OWN)


def test_nothing_is_trained_and_every_stage_is_there(home: Home, result: SweepResult) -> None:
    assert [member.name for member in result.members] == ["GAN-A", "Own"]
    assert result.failed == {} and result.run_id is not None
    assert not (result.folder / "train").exists()
    assert result.table.row("last").members == result.table.row("all").members
    folder = SweepFolder(result.folder)
    rows = {row["gan"]: row for row in sweep_status(folder)["gans"]}
    assert {row["state"] for row in rows.values()} == {"done"} and set(rows) == {"GAN-A", "Own"}
    runs = {home.store.get(each.run_id).name for each in home.store.children(result.run_id)}
    assert {"GAN-A", "Own", "search", "selected"} <= runs
    about = description(folder.read(), result.run_id)
    assert "0 generators trained on phantom, 2 from elsewhere." in about


def test_the_ensemble_gives_out_their_images(result: SweepResult) -> None:
    made = ensemble.load_ensemble(result.ensemble).sample(20, seed=1)
    given = {image.tobytes() for m in result.members for image in Samples.load(m.samples).images}
    assert all(image.tobytes() in given for image in made.images)
    card = (result.ensemble / "README.md").read_text()
    assert "CC BY-NC 4.0" in card and "/gan-a" not in card


def test_running_again_calls_no_generator(home: Home, result: SweepResult) -> None:
    calls, before = home.calls, files_of(result.folder, "banks", "features", "members", "scores")
    assert home.run(A, OWN).run_id == result.run_id
    assert home.calls == calls and calls > 0
    assert files_of(result.folder, "banks", "features", "members", "scores") == before


def test_a_member_more_computes_only_itself(home: Home, result: SweepResult) -> None:
    calls, before = home.calls, files_of(result.folder, "banks", "features", "members")
    grown = home.run(A, OWN, B)
    assert [member.name for member in grown.members] == ["GAN-A", "Own", "GAN-B"]
    assert grown.run_id != result.run_id and home.calls == calls
    after = files_of(result.folder, "banks", "features", "members")
    assert before.items() <= after.items() and len(after) == len(before) + 3


def test_beside_the_zoo_they_come_last_and_can_be_chosen(home: Home) -> None:
    train = {"gans": ["SNGAN"], "steps": 2, "snapshots": 2}
    both = home.run(A, name="both", train=train, select={"rule": "max-intra"})
    assert [member.name for member in both.members] == ["SNGAN@1", "SNGAN@2", "GAN-A"]
    assert "GAN-A" in both.selected.point.members, "two steps of training do not beat it"
    made = ensemble.load_ensemble(both.ensemble).sample(12, seed=0)
    assert set(made.member_names) == set(both.selected.point.members)
    assert next(e.fields["member"] for e in home.events if e.kind == "member") == "GAN-A"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([{"name": "X"}], "member 'X' needs either images .* or a generator"),
        ([{"name": "X", "images": "a", "generator": "b.py"}], "needs either images"),
        ([A, A], "repeated names: GAN-A"),
        ([{**A, "name": "SNGAN"}], "'SNGAN' is the name of a GAN of the zoo"),
        ([{**A, "imgaes": "x"}], "unknown key: did you mean 'images'"),
        ([], "train.gans names no GAN"),
        ([{**A, "images": "absent"}, {**OWN, "generator": "absent.py"}], "GAN-A: no such file"),
        ([{**A, "images": "absent"}, {**OWN, "generator": "absent.py"}], "Own: no such file"),
    ],
)
def test_problems_come_before_anything_is_read(
    home: Home, members: list[dict[str, Any]], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        home.run(*members, name="bad")
    assert not (home.path / "runs" / "sweeps" / "bad" / "manifest.json").exists()


def test_images_or_code_that_fail_stop_the_sweep_before_training(home: Home) -> None:
    np.savez(home.path / "bare.npz", images=np.zeros((4, 32, 32), np.uint8))
    train = {"gans": ["SNGAN"], "steps": 2}
    with pytest.raises(InputError, match=r"member 'X': .*bare.npz has no classes, the real .* 2"):
        home.run({"name": "X", "images": "bare.npz"}, name="bare", train=train)
    (home.path / "broken.py").write_text("def sample(n, labels, seed):\n    raise OSError('gone')")
    with pytest.raises(InputError, match=r"member 'Y': the sampler failed .* OSError: gone"):
        home.run({"name": "Y", "generator": "broken.py:sample"}, name="broken", train=train)
    for name in ("bare", "broken"):
        assert not (home.path / "runs" / "sweeps" / name / "train").exists()
