"""ensgan from Python: short representations, notebook displays, frames, plain strings as paths."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_run import recorded
from tiny_sweep import tiny

from ensgan.config import load_spec
from ensgan.errors import ConfigError, InputError
from ensgan.launch.runs import RecordedSweep
from ensgan.report.content import collect
from ensgan.types import Dataset, Front, FrontPoint, PoolScores, Samples, harmonic_mean

EVIL = "<script>alert(1)</script>"


def samples(n: int = 70, *, generated: bool = True, channels: int = 1) -> Samples:
    shape = (n, 8, 8) if channels == 1 else (n, 8, 8, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    labels = np.arange(n, dtype=np.int64) % 2
    if not generated:
        return Samples(images, labels)
    return Samples(images, labels, np.zeros(n, np.int64), (EVIL,))


def scores(names: tuple[str, ...] = ("A@1", EVIL)) -> PoolScores:
    m = len(names)
    overlap = np.full((m, m), 0.25)
    np.fill_diagonal(overlap, np.nan)
    density, coverage = np.linspace(0.5, 1.0, m), np.linspace(0.4, 0.9, m)
    masks = np.zeros((m, 1), np.uint8)
    counts = np.full(m, 4, np.int64)
    return PoolScores(names, density, coverage, masks, overlap, 5, 8, counts)


def front() -> Front:
    points = (FrontPoint(("A@1",), 0.9, 0.5), FrontPoint(("A@1", EVIL), 0.7, 0.2))
    return Front(("intra_d:max", "inter_d:min:symmetric"), "ensemble", 0, 10, 8, 0.1, 0.4, points)


@pytest.mark.parametrize("thing", [samples(), scores(), front()], ids=lambda t: type(t).__name__)
def test_representations_are_one_line_and_displays_are_escaped(thing: object) -> None:
    assert len(repr(thing)) < 200 and "\n" not in repr(thing)
    shown = thing._repr_html_()  # type: ignore[attr-defined]
    assert EVIL not in shown and "&lt;script&gt;" in shown


def test_a_recorded_run_is_one_line(tmp_path: Path) -> None:
    """However many settings and scores it has."""
    store, run_id = recorded(tmp_path)
    run = store.get(run_id)
    text = repr(replace(run, name="toy", params={f"a{i}": "b" for i in range(100)}))
    assert text == f"RunRecord(toy, sweep finished, {run.started:%Y-%m-%d %H:%M}, {run_id})"


def test_a_dataset_is_one_line() -> None:
    real = samples(generated=False)
    text = repr(Dataset("toy", real, real, real, ("no", "yes")))
    assert text == "Dataset(toy: train 70, val 70, test 70; 1×8×8; classes no, yes)"


@pytest.mark.parametrize("channels", [1, 3])
def test_generated_images_are_shown_as_a_sheet(channels: int) -> None:
    sheet = samples(channels=channels).sheet()
    assert sheet.size == (16 * 64, 4 * 64)  # 64 of the 70 images, eight times enlarged
    assert "data:image/png;base64," in samples(channels=channels)._repr_html_()


def test_images_that_may_be_a_patients_are_not_displayed_unasked() -> None:
    assert "data:image" not in samples(generated=False)._repr_html_()
    assert samples(generated=False).sheet().size[0] == 1024


def test_empty_samples_are_displayed() -> None:
    assert "0 images" in samples(0)._repr_html_()


def test_images_as_pillow_and_as_files(tmp_path: Path) -> None:
    some = samples(3)
    np.testing.assert_array_equal(np.asarray(some.to_pil()[2]), some.images[2])
    folder = some.save_png(str(tmp_path / "out"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "000000_class-0.png",
        "000001_class-1.png",
        "000002_class-0.png",
    ]
    with pytest.raises(InputError, match="out"):
        some.save_png(folder)


def test_frames_hold_every_number() -> None:
    pool = scores()
    frame = pool.to_frame()
    assert list(frame.index) == list(pool.names)
    np.testing.assert_array_equal(frame["intra_d"], harmonic_mean(pool.density, pool.coverage))
    np.testing.assert_array_equal(frame["mean_inter_d"], [0.25, 0.25])
    points = front().to_frame()
    assert points["size"].tolist() == [1, 2] and points["inter_d"].tolist() == [0.5, 0.2]


def test_plain_strings_are_paths(tmp_path: Path) -> None:
    samples().save(str(tmp_path / "s.npz"))
    assert len(Samples.load(str(tmp_path / "s.npz"))) == 70
    scores().save(str(tmp_path / "p.npz"))
    assert PoolScores.load(str(tmp_path / "p.npz")).names == scores().names
    front().save(str(tmp_path / "f.json"))
    assert Front.load(str(tmp_path / "f.json")) == front()


def test_a_spec_may_be_a_mapping() -> None:
    tree = tiny()
    spec = load_spec(tree, settings=["train.steps=4"])
    assert spec.train.steps == 4 and tree["train"]["steps"] == 6, "the mapping stays as it was"
    with pytest.raises(ConfigError, match="did you mean 'gans'"):
        load_spec(tiny(train={"gasn": []}))


def test_it_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    """As in every cell of a notebook."""

    async def cell() -> str:
        store, run_id = recorded(tmp_path)
        run = RecordedSweep(collect(store, run_id), store, tmp_path)
        return run.report(tmp_path / "page.html").read_text()

    assert "ensgan report</title>" in asyncio.run(cell())


def test_a_recorded_sweep_from_python(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    run = RecordedSweep(collect(store, run_id), store, tmp_path)
    assert run.run_id == run_id and "\n" not in repr(run)
    assert run.front is not None and len(run.members) == len(run.content.manifest.members)
    assert set(run.members[run.members["selected"]]["name"]) == set(run.selected_names)
    assert run.table is not None and "strategy" in run.table.columns
    assert "<script>" not in run._repr_html_()
    page = run.report(str(tmp_path / "page.html"))
    assert "ensgan report</title>" in page.read_text()
    with pytest.raises(InputError, match=r"page\.html"):
        run.report(page)
    assert run.report(page, force=True) == page
