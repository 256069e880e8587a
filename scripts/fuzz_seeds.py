"""Small real inputs of every reader that ``scripts/fuzz`` attacks, made by the script itself."""

from __future__ import annotations

import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
RUN = "a" * 32


class Seeds:
    """Small real files, made in ``folder`` when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def sweep(self) -> Path:
        """The folder of a finished sweep of generators from elsewhere; nothing was trained."""
        from memory_store import MemoryStore

        from ensgan.store import STORES, StoreKind

        if "unkept" not in STORES:  # MLflow would take most of the time
            STORES.register(StoreKind("unkept", lambda *_: MemoryStore()))
        return self._finished("sweep", track={"uri": "unkept:"})

    def _finished(self, name: str, **sections: object) -> Path:
        from bank_sweep import write_bank_sweep

        from ensgan.launch.sweep import run_sweep

        file = write_bank_sweep(self.folder / name, **sections)
        return run_sweep(file, storage=file.parent / "runs", address=None).folder

    @cached_property
    def place(self) -> Path:
        """A current folder for command lines: a recorded sweep, its parts, and images."""
        found, place = self._finished("place"), self.folder / "place"
        shutil.copytree(next((found / "ensemble").iterdir()), place / "ensemble")
        shutil.copy(next((found / "search").glob("front-*.json")), place / "front.json")
        shutil.copy(next((found / "scores").glob("scores-*.npz")), place / "scores.npz")
        (place / "features.npz").write_bytes(features())
        for name, seed in (("real", 0), ("fake", 1)):
            np.save(place / f"{name}.npy", np.random.default_rng(seed).normal(size=(30, 4)))
        for index in range(12):
            image = place / "images" / "ab"[index % 2] / f"{index}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture("PNG", index))
        return place

    def first(self, pattern: str) -> bytes:
        """A file of the sweep."""
        return next(self.sweep.rglob(pattern)).read_bytes()

    def files(self, kind: str) -> list[bytes]:
        """The inputs of a kind."""
        if kind == "yaml":
            shipped = sorted((Path(__file__).parents[1] / "sweeps").glob("*.yaml"))
            return [SPEC, VARIED, *(path.read_bytes() for path in shipped)]
        if kind in ("json", "manifest"):
            pattern = "manifest.json" if kind == "manifest" else "*.json"
            return [p.read_bytes() for p in sorted(self.sweep.rglob(pattern))]
        if kind == "safetensors":
            return [path.read_bytes() for path in sorted(self.sweep.rglob("*.safetensors"))]
        if kind == "words":
            _ = self.place
            return [json.dumps(line.split()).encode() for line in LINES]
        if kind == "paths":
            import fuzz_paths

            weights = next(self.sweep.rglob("extractor/*.safetensors"))
            fuzz_paths.fill(self.place, weights)
            return fuzz_paths.seeds()
        if kind == "mlflow":
            return [json.dumps(ANSWERS).encode()]
        made: Mapping[str, Callable[[], list[bytes]]] = {
            "npz": lambda: [features(), labelled(), self.first("scores-*.npz")],
            "png": lambda: [picture("PNG", 0, mode) for mode in ("L", "RGB", "I;16", "P", "LA")],
            "tiff": lambda: [picture("TIFF", 0, mode) for mode in ("L", "RGB", "I;16", "F", "1")],
            "dicom": dicoms,
            "csv": lambda: [TABLE, TABLE.replace(b",", b";"), TABLE.replace(b",", b"\t")],
            "xlsx": lambda: [workbook()],
        }
        return made[kind]()


SPEC = b"""name: tiny
seed: 7
dataset: {name: phantom, image_size: 32, options: {n_train: 160, n_val: 60}}
train: {gans: [SNGAN, ACGAN-Mod], steps: 6, snapshots: 2, width: 0.0625, batch: 8}
search: {sampler: ensemble, trials: 40, third: null}
select: {rule: knee}
evaluate: {strategies: [real, selected], repeats: 2, epochs: 1}
cluster: {retries: 2, cpus_per_trial: 1}
track: {uri: "sqlite:///x.db"}
members:
  - {name: own, images: own.npz}
"""
VARIED = b"""name: varied
dataset: {name: phantom}
train:
  gans: [SNGAN, SAGAN]
  steps: 20
  overrides: {SNGAN: {batch: 16}}
  vary: {learning_rate: [0.0001, 0.0002], ema_decay: [0.9, 0.99]}
"""
TABLE = b"file,label,split,patient\na/0.png,yes,train,p1\na/1.png,no,val,p2\nb/2.png,no,test,p3\n"
LINES = (
    "zoo --image-size 32 --width 0.1 --json",
    "status banks --storage runs --json",
    "runs --storage runs",
    "show latest --storage runs",
    "compare banks banks --storage runs --json",
    "search scores.npz -o made/front.json --trials 20 --sampler ensemble --seed 1",
    "select front.json --rule knee --scores scores.npz --bootstrap 5 --json",
    "prdc real.npy fake.npy -k 3 --json",
    "score features.npz -o made/scores.npz -k 3 --backend torch --classes joint",
    "verify ensemble --json",
    "sample ensemble -n 4 --seed 1 -o made/samples.npz --labels 0:2,1:2",
    "data list",
    "data check images --image-size 16 --json",
    "data check phantom --option n_train=60 --option n_val=20",
    "init --data images -o made/new.yaml --image-size 16",
    "merge banks banks -o made/merged.yaml --storage runs",
    "pull banks -o made/pulled --storage runs",
    "report banks -o made/report.html --storage runs",
    "sweep banks.yaml --dry-run --storage runs --set seed=3 --set train.steps=9",
    "train banks.yaml --gan SNGAN --storage runs --set seed=4",
    "logs banks -n 3 --storage runs",
    "stop banks --gan SNGAN --storage runs",
    "priority banks 7 --gan SNGAN --storage runs",
    "budget banks --gpu-hours 3 --storage runs",
    "bundle front.json images -o made/bundle --scores scores.npz --rule knee",
    "sync banks --storage runs",
    "promote banks --name own --alias champion --storage runs",
    "serve ensemble --port 8800 --max-images 3",
    "ui banks --port 5001 --storage runs",
    "evaluate banks --storage runs --repeats 1 --epochs 1",
    "study banks -o made/study.md --storage runs",
)
_INFO = {
    "run_id": RUN, "run_uuid": RUN, "run_name": "tiny", "experiment_id": "1", "status": "FINISHED",
    "start_time": 1, "end_time": 2, "lifecycle_stage": "active",
    "artifact_uri": f"mlflow-artifacts:/{RUN}/artifacts",
}  # fmt: skip
_DATA = {
    "metrics": [{"key": "auc", "value": 0.5, "timestamp": 1, "step": 0}],
    "params": [{"key": "train.steps", "value": "6"}],
    "tags": [{"key": "ensgan.kind", "value": "sweep"}, {"key": "mlflow.runName", "value": "tiny"}],
}
_VERSION = {"name": "own", "version": "3", "run_id": RUN, "creation_timestamp": 1}
ANSWERS: dict[str, Any] = {
    "runs/get": [200, {"run": {"info": _INFO, "data": _DATA}}],
    "runs/search": [200, {"runs": [{"info": _INFO, "data": _DATA}]}],
    "experiments/search": [200, {"experiments": [{"experiment_id": "1", "name": "ensgan"}]}],
    "registered-models/search": [
        200,
        {"registered_models": [{"name": "own", "aliases": [{"alias": "best", "version": "3"}]}]},
    ],
    "model-versions/search": [200, {"model_versions": [_VERSION]}],
    "artifacts/list": [200, {"files": [{"path": "a.json", "is_dir": False, "file_size": 4}]}],
    "artifacts": [200, {"files": [{"path": "a.json", "is_dir": False, "file_size": 4}]}],
}


def features() -> bytes:
    """A pool of features as ``ensgan score`` takes it."""
    rng = np.random.default_rng(0)
    return _npz(real=rng.normal(size=(12, 3)), fake=rng.normal(size=(2, 10, 3)), names=["a", "b"])


def labelled(side: int = 8) -> bytes:
    """A bank of labelled images."""
    images = np.random.default_rng(0).integers(0, 255, (6, side, side)).astype(np.uint8)
    return _npz(images=images, labels=np.arange(6) % 2)


def _npz(**arrays: Any) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def picture(form: str, seed: int, mode: str = "L") -> bytes:
    """A small image file."""
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 200)
    made = io.BytesIO()
    (image if mode in ("L", "I;16") else image.convert(mode)).save(made, form)
    return made.getvalue()


def dicoms() -> list[bytes]:
    """Small single-frame images: plain, with a window and a table, of 8 bits."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    found = []
    for depth, extra in ((16, {}), (16, {"WindowCenter": 40, "WindowWidth": 400}), (8, {})):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = "1.2.3"
        made = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
        values = {
            "SOPClassUID": SecondaryCaptureImageStorage, "SOPInstanceUID": "1.2.3",
            "PatientID": "p", "Modality": "CT", "Rows": 8, "Columns": 8, "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": depth,
            "BitsStored": min(depth, 12), "HighBit": min(depth, 12) - 1, "PixelRepresentation": 0,
            "RescaleSlope": 1, "RescaleIntercept": -1000, "NumberOfFrames": 1, **extra,
        }  # fmt: skip
        for name, value in values.items():
            setattr(made, name, value)
        if extra:
            table = Dataset()
            table.LUTDescriptor = [4, 0, 16]
            table.LUTData = np.array([0, 9, 99, 999], np.uint16).tobytes()
            made.VOILUTSequence = [table]
        kind = np.uint16 if depth == 16 else np.uint8
        made.PixelData = np.arange(64).astype(kind).tobytes()
        stream = io.BytesIO()
        made.save_as(stream)
        found.append(stream.getvalue())
    return found


def workbook() -> bytes:
    """The table as an Excel workbook, as small as one can be."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rows = [line.split(",") for line in TABLE.decode().split()]
    cells = [
        "".join(
            f'<c r="{"ABCD"[i]}{n}" t="inlineStr"><is><t>{cell}</t></is></c>'
            for i, cell in enumerate(row)
        )
        for n, row in enumerate(rows, 1)
    ]
    cells[0] = cells[0].replace('t="inlineStr"><is><t>file</t></is>', 't="s"><v>0</v>')
    shared = f"<sst {space}><si><t>file</t></si></sst>"
    lines = "".join(f'<row r="{n}">{row}</row>' for n, row in enumerate(cells, 1))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/sharedStrings.xml", shared)
        archive.writestr(
            "xl/worksheets/sheet1.xml",
            f"<worksheet {space}><sheetData>{lines}</sheetData></worksheet>",
        )
    return made.getvalue()
