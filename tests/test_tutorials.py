"""The tutorials: every command in them runs, in order, as the page says."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from ensgan.cli import app
from ensgan.cli.app import load_command
from ensgan.data import load_dataset
from ensgan.types import Samples

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "tutorials"
SCORED = {"n_train": 60, "n_val": 12, "n_test": 12}
# A sweep of the pages made small: two GANs, four members, one repeat.
SETTINGS = [
    "train.gans=[SNGAN,ACGAN-Mod]",
    "train.steps=6",
    "train.snapshots=2",
    "train.width=0.03125",
    "train.batch=8",
    "evaluate.strategies=[real,best-single,all,selected]",
    "evaluate.repeats=2",
    "evaluate.epochs=1",
    "evaluate.width=4",
    "search.trials=40",
    "score.k=3",
]
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]
HERE = ["--address", "none"]  # no Ray: tests/cluster and the README's test start it


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.S)


def commands(page: str) -> list[str]:
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def pictures(folder: Path, samples: Samples, names: tuple[str, ...]) -> None:
    for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        path = folder / names[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


class Reader:
    """Someone who types what a page says."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.run_id = home, ""
        patch.chdir(home)
        patch.setenv("ENSGAN_CACHE", str(home / "cache"))
        for name in ("MLFLOW_TRACKING_URI", "ENSGAN_STORAGE"):
            patch.delenv(name, raising=False)

    def types(self, command: str, *more: str) -> dict[str, Any]:
        """Run one line; what it printed with --json."""
        words = shlex.split(command.replace("RUN", self.run_id))
        if words[0] == "python":
            with (
                pytest.MonkeyPatch.context() as patch
            ):  # in this process: torch is imported already
                patch.setattr(sys, "argv", words[1:])
                runpy.run_path(words[1], run_name="__main__")
            return {}
        result = CliRunner().invoke(app, [*words[1:], *more, "--json"])
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception!r}"
        value: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        if "run_id" in value:
            self.run_id = value["run_id"]
        return value

    def reads(self, page: str) -> dict[str, Any]:
        """Run the page's Python."""
        names: dict[str, Any] = {}
        for block in blocks(page, "python"):
            exec(compile(block, page, "exec"), names)
        return names


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield Reader(tmp_path_factory.mktemp("reader"), patch)


def test_every_page_is_listed_and_every_command_is_known() -> None:
    """Options and arguments of all commands are parsed, the long ones too."""
    listed = (PAGES / "README.md").read_text()
    pages = sorted(path.name for path in PAGES.glob("*.md") if path.name != "README.md")
    assert len(pages) == 5
    for page in pages:
        assert f"({page})" in listed
        for command in (*commands(page), *"\n".join(blocks(page, "text")).splitlines()):
            words = shlex.split(command) if command.startswith("ensgan ") else []
            if not words:
                continue
            found, place = load_command(words[1]), words[2:]
            while place and hasattr(found, "commands"):
                found, place = found.commands[place[0]], place[1:]
            found.make_context(command, place, resilient_parsing=False).close()


@pytest.mark.timeout(1200)
def test_own_generators(reader: Reader) -> None:
    """Three outside generators: a folder, a file, a diffusion model; and two more later."""
    pool = reader.home / "my-pool"
    real, first, second = (load_dataset("phantom", options=SCORED, seed=s).train for s in (0, 5, 6))
    names = ("normal", "opacity")
    pictures(pool / "real", real, names)
    pictures(pool / "fake" / "GAN-A", first, names)
    np.savez(pool / "fake" / "GAN-B.npz", images=255 - second.images, labels=second.labels)
    (pool / "fake" / "GAN-B.json").write_text('{"licence": "CC BY-NC 4.0", "source": "made up"}')
    shutil.copy(PAGES / "ddpm.py", reader.home)
    (reader.home / "pooled.yaml").write_text(blocks("own-generators.md", "yaml")[0])
    said = {}
    *page, sweep = commands("own-generators.md")
    for command in page:
        more = ["--rule", "max-intra"] if "bundle" in command else []
        said[command.partition(" --")[0]] = reader.types(command, *more)
        if command.startswith("ensgan bank") and "--name DDPM " in command:
            reader.reads("own-generators.md")
            assert (pool / "fake" / "Blurs.npz").is_file()
    scored = said["ensgan score my-pool/ -o scores.npz"]
    assert set(scored["density"]) == {"GAN-A", "GAN-B", "DDPM", "Blurs"}
    bundled = said["ensgan bundle front.json my-pool/"]
    assert "GAN-A" in bundled["members"] and len(bundled["members"]) >= 2
    listed = said["ensgan runs"]["runs"]
    assert listed[0]["run_id"] == reader.run_id and listed[0]["members"] == 4
    assert sorted(listed[0]["selected"]) == sorted(bundled["members"])
    grown = said["ensgan score my-pool/ -o grown.npz"]
    assert len(grown["density"]) == 5
    assert {n: grown["density"][n] for n in scored["density"]} == scored["density"]
    bundled_run = reader.run_id
    file = ("train.gans", "evaluate.strategies")  # as the page's file has them, or leaves them out
    small = [word for each in SETTINGS if not each.startswith(file) for word in ("--set", each)]
    swept = reader.types(sweep, *small, *HERE)
    assert swept["members"] == 3 and swept["failed"] == {}
    reader.run_id = bundled_run  # what the next page pulls
    card = (reader.home / "pulled" / "README.md").read_text()
    assert "bank" in card and "my-pool" in card
    stored = {path.suffix for path in (reader.home / "pulled").rglob("*") if path.is_file()}
    assert stored == {".json", ".md", ".safetensors"}, "data only, no code"


def test_pull_and_use(reader: Reader) -> None:
    """After the page above: its ensemble is the one pulled here."""
    shutil.rmtree(reader.home / "ensemble")
    (reader.home / "samples.npz").unlink()
    for command in commands("pull-and-use.md"):
        reader.types(command)
    names = reader.reads("pull-and-use.md")
    assert names["samples"].images.shape == (32, 32, 32)
    assert len(list((reader.home / "pictures").rglob("*.png"))) == 10


def test_changed_images_are_not_bundled(reader: Reader) -> None:
    path = next((reader.home / "my-pool" / "fake" / "GAN-A").rglob("*.png"))
    kept = path.read_bytes()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    words = ["front.json", "my-pool/", "--scores", "scores.npz", "-o", "other/"]
    result = CliRunner().invoke(app, ["bundle", *words, "--rule", "max-intra"])
    assert "GAN-A: the images are not those that were scored" in str(result.exception)
    assert not (reader.home / "other").exists()
    path.write_bytes(kept)


def test_a_rule_of_ones_own_bundles_too(reader: Reader) -> None:
    (reader.home / "mine.py").write_text(
        "import numpy as np\nfrom ensgan.search.selection import SelectionRule\n"
        "FEWEST = SelectionRule('fewest', lambda q: -np.array([len(p.members) for p in q.front], "
        "float), lambda front: 'the fewest members')\n"
    )
    words = ["front.json", "my-pool/", "--scores", "scores.npz", "-o", "fewest/"]
    result = CliRunner().invoke(app, ["bundle", *words, "--rule", "mine.py:FEWEST", "--json"])
    assert result.exit_code == 0, result.exception
    told = json.loads(result.stdout)
    assert told["rule"] == "fewest" and "the fewest members" in told["reason"]


def test_the_data_and_its_first_sweep_file(reader: Reader) -> None:
    """The quick part of the page on one's own data."""
    options = {"n_train": 96, "n_val": 24, "n_test": 24}
    samples = load_dataset("phantom", options=options, seed=2).train
    pictures(reader.home / "my-xrays", samples, ("normal", "opacity"))
    check, init, *_ = commands("own-data.md")
    assert reader.types(check)["splits"]["train"]["images"] > 60
    assert reader.types(init)["spec"]["dataset"]["name"] == "folder"
    names = reader.reads("own-data.md")
    assert names["torch_set"][0][0].shape == (1, 32, 32)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_own_data_to_the_end(reader: Reader) -> None:
    """init → sweep on a folder of PNGs, the sweep made small."""
    if not (reader.home / "my-xrays").exists():
        test_the_data_and_its_first_sweep_file(reader)
    *_, dry, sweep = commands("own-data.md")
    assert reader.types(dry, *SMALL)["members"] == 4
    done = reader.types(sweep, *SMALL, *HERE)
    assert done["event"] == "done" and done["run_id"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_cluster_sweep(reader: Reader) -> None:
    (reader.home / "sweeps").mkdir()
    spec = yaml.safe_load((ROOT / "sweeps" / "quickstart.yaml").read_text())
    spec["dataset"]["options"] = SCORED
    (reader.home / "sweeps" / "quickstart.yaml").write_text(yaml.safe_dump(spec))
    for command in commands("cluster-sweep.md"):
        reader.types(command, *([*SMALL, *HERE] if " sweep " in command else []))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vary_grow_merge(reader: Reader) -> None:
    """The sweeps of the page in their own small GANs, trained for some steps."""
    page = "vary-grow-merge.md"
    first, more, theirs = map(yaml.safe_load, blocks(page, "yaml"))
    for spec in (first, theirs):
        spec["dataset"]["options"] = SCORED
        (reader.home / f"{spec['name']}.yaml").write_text(yaml.safe_dump(spec))
    length = ["--set", "train.steps=6", "--set", "train.snapshots=2"]
    said: list[tuple[str, dict[str, Any]]] = []
    for command in commands(page):
        if command == "ensgan sweep varied.yaml --dry-run" and said:  # of "2. Grow"
            first["train"] |= more
            (reader.home / "varied.yaml").write_text(yaml.safe_dump(first))
            length = ["--set", "train.steps=12", "--set", "train.snapshots=4"]
        elif command.endswith("theirs.yaml"):
            length = ["--set", "train.steps=6", "--set", "train.snapshots=2"]
        settings = [*length, *SMALL[6:], *HERE] if " sweep " in command else []
        said.append((command, reader.types(command, *settings)))
    swept = [value for command, value in said if " sweep " in command and "--dry" not in command]
    assert [value["members"] for value in swept] == [16, 72, 2, 74]
    grows = [value["would"] for command, value in said if "--dry-run" in command][1]
    assert grows[0].startswith("would add 56 members (")
    status = next(value for command, value in said if command == "ensgan status varied")
    assert [row["state"] for row in status["gans"]] == 8 * ["done"]
    pulled = next(value for command, value in said if command.startswith("ensgan pull"))
    assert sorted(pulled["members"]) == sorted(swept[0]["selected"]["members"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["aiforcovid", "rgb"])
def test_sweeps_on_other_data(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_data: Callable[..., Any]
) -> None:
    """A made AIforCOVID-like DICOM set; seven classes of RGB pictures."""
    reader = Reader(tmp_path, monkeypatch)
    folder, classes, channels = other_data(kind, tmp_path)
    reader.types(f"ensgan init --data {folder} -o first.yaml")
    done = reader.types("ensgan sweep first.yaml", *SMALL, *HERE)
    reader.run_id = done["run_id"]
    pulled = reader.types("ensgan pull RUN -o pulled/")
    assert pulled["image"][0] == channels and pulled["classes"] == classes
    reader.types("ensgan sample pulled/ -n 12 --seed 1 -o samples.npz")
    shape = (12, 32, 32) if channels == 1 else (12, 32, 32, 3)
    assert np.load(tmp_path / "samples.npz")["images"].shape == shape


@pytest.fixture
def other_data() -> Callable[..., tuple[Path, list[str], int]]:
    def make(kind: str, home: Path) -> tuple[Path, list[str], int]:
        folder = home / kind
        rng = np.random.default_rng(0)
        if kind == "rgb":
            names = [f"cell{index}" for index in range(7)]
            for index in range(140):
                level = np.array([30 * (index % 7), 255 - 30 * (index % 7), 90])
                noise = level + rng.normal(0, 30, (40, 40, 3))
                path = folder / names[index % 7] / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)
            return folder, names, 3
        return chests(folder, rng), ["MILD", "SEVERE"], 1

    return make


def chests(folder: Path, rng: np.random.Generator) -> Path:
    """DICOM phantoms, 12 bits, two images a patient, some MONOCHROME1, with a clinical table."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    options = {"n_train": 96, "n_val": 12, "n_test": 12}
    samples = load_dataset("phantom", image_size=64, options=options, seed=1).train
    folder.mkdir()
    rows = ["ImageFile,Prognosis,PatientID"]
    for index, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID = meta.MediaStorageSOPClassUID
        file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        values = image.astype(np.uint16) * 16 + rng.integers(0, 16, image.shape, dtype=np.uint16)
        file.PhotometricInterpretation = "MONOCHROME1" if index % 3 == 0 else "MONOCHROME2"
        values = 4095 - values if index % 3 == 0 else values
        file.Rows, file.Columns = values.shape
        file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
        file.PixelRepresentation, file.SamplesPerPixel = 0, 1
        file.PixelData = values.tobytes()
        file.save_as(folder / f"P_{index}.dcm", enforce_file_format=True)
        # Patients must keep to one class here, or the split could not be stratified.
        rows.append(f"P_{index},{('MILD', 'SEVERE')[label]},{label}-{index // 4}")
    (folder / "clinical.csv").write_text("\n".join(rows))
    return folder
