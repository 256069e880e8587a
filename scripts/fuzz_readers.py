"""The readers that ``scripts/fuzz`` attacks: how their inputs are damaged and what reads them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import fuzz_mutations as damage
from fuzz_paths import in_place
from fuzz_seeds import ANSWERS, RUN, picture

SERVER = "http://127.0.0.1:9"
"""Of the tracking server that lies; nothing is ever sent there."""


@dataclass(frozen=True)
class Reader:
    """One gate.

    Attributes:
        name: what it reads.
        seeds: the names under :attr:`Seeds.files` of the inputs that are damaged.
        damage: makes another input from one of them.
        read: reads the file at a path as a user would have it read.
        share: of all inputs; what reads faster gets more.
    """

    name: str
    seeds: str
    damage: damage.Damage
    read: Callable[[Path], object]
    share: float


def read_spec(path: Path) -> object:
    from ensgan.sweep.planning.sweep_file import load_sweep

    return load_sweep(path).model_dump_json()


def read_manifest(path: Path) -> object:
    from ensgan.sweep.manifest import Manifest

    manifest = Manifest.load(path)
    return manifest.planned_names, manifest.tree(path.parent), manifest.label_shares


def read_records(path: Path) -> object:
    """Every reader of a JSON file takes the same text; the first that accepts it ends it."""
    from ensgan.cli.search import read_costs
    from ensgan.ensemble.manifest import manifest_from
    from ensgan.files import read_json
    from ensgan.sweep.live.requests import Answer, Request
    from ensgan.sweep.live.status import Heartbeat, Progress
    from ensgan.sweep.records import MemberResult, RecordFile, record_from
    from ensgan.types import Front

    value = read_json(path)
    takers: tuple[Callable[[], object], ...] = (
        lambda: MemberResult.load(path, path.parent),
        lambda: RecordFile.load(path),
        lambda: Front.load(path),
        lambda: manifest_from(value, str(path)),
        lambda: read_costs(path),
        *(lambda kind=kind: record_from(kind, value, str(path), None)  # type: ignore[misc]
          for kind in (Answer, Request, Heartbeat, Progress)),
    )  # fmt: skip
    return _taken_by_any(takers)


def _taken_by_any(takers: Sequence[Callable[[], object]]) -> object:
    """What the last reader that takes a file makes of it.

    Raises:
        EnsganError: every one refuses it.
    """
    from ensgan.errors import EnsganError

    refused, found = None, None
    for taker in takers:
        try:
            found = taker()
        except EnsganError as error:
            refused = error
    if found is None and refused is not None:
        raise refused
    return found


def read_arrays(path: Path) -> object:
    from ensgan.data.image_set import read_images
    from ensgan.metrics.features import load_pool, open_features
    from ensgan.types import PoolScores, Samples

    def pool() -> object:
        found = load_pool(path)
        return [open_features(source, "x").sum() for source in (found.real, *found.fakes)]

    takers: tuple[Callable[[], object], ...] = (
        lambda: Samples.load(path),
        lambda: PoolScores.load(path).intra_d,
        lambda: read_images(path, path.parent, 8, None),
        pool,
    )
    return _taken_by_any(takers)


def read_image(path: Path) -> object:
    from ensgan.data.picture import read_picture

    return read_picture(path)[0].sum()


def read_labels(path: Path) -> object:
    """A label table beside three images: the folder as a data set; a workbook as a table."""
    from ensgan.data.registry import load_dataset
    from ensgan.data.table import read_table

    if path.suffix != ".csv":
        return read_table(path)

    folder = path.with_name("labelled")
    if not folder.exists():
        for name in ("a/0.png", "a/1.png", "b/2.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(picture("PNG", 1))
    table = folder / f"labels{path.suffix}"
    path.replace(table)
    try:
        return load_dataset(folder, image_size=8)
    finally:
        table.unlink()


def read_weights(path: Path) -> object:
    from ensgan.embedding import load_extractor
    from ensgan.ensemble.weights import read_tensor_infos, refuse_non_finite
    from ensgan.errors import EnsganError

    with contextlib.suppress(EnsganError):
        load_extractor(path)
    infos = read_tensor_infos(path)
    refuse_non_finite(path, infos)
    return sum(info.size for info in infos.values())


def read_answers(path: Path) -> object:
    """Ask a tracking server that answers as the file says."""
    import requests

    from ensgan.errors import EnsganError
    from ensgan.store import find_run
    from ensgan.store.tracking import MLflowStore

    try:
        answers = json.loads(path.read_bytes())
        answers = answers if isinstance(answers, dict) else {}
    except (ValueError, RecursionError):
        answers = {name: [200, path.read_bytes().decode("latin-1")] for name in ANSWERS}

    def send(_: object, request: Any, **__: object) -> requests.Response:
        asked = urlsplit(request.url).path
        name = next((name for name in ANSWERS if asked.endswith(name)), "artifacts")
        answer = answers.get(name)
        status, body = answer if isinstance(answer, list) and len(answer) == 2 else (200, answer)
        reply = requests.Response()
        reply.status_code = status if isinstance(status, int) and 100 <= status < 600 else 500
        text = body if isinstance(body, str) else json.dumps(body)
        reply.raw = io.BytesIO(text.encode("utf-8", "replace"))
        reply.url, reply.request = request.url, request
        return reply

    asks: tuple[Callable[[Any], object], ...] = (
        lambda store: [str(store.get(RUN)), store.page(RUN, "a")],
        lambda store: [str(run) for run in store.find()],
        lambda store: find_run(store, "aaaa"),
        lambda store: store.files(RUN),
        lambda store: store.read(RUN, "a.json"),
        lambda store: store.registered("own", alias="best"),
    )
    refused = None
    with (
        patch("requests.adapters.HTTPAdapter.send", send),
        patch("socket.create_connection", lambda *_, **__: io.BytesIO()),
    ):
        for ask in asks:
            try:
                ask(MLflowStore(SERVER))
            except EnsganError as error:
                refused = error
    if refused is not None:
        raise refused
    return None


class NotRunError(Exception):
    """What would run for long or listen is not run by the fuzzer: the words were accepted."""


def read_words(path: Path) -> object:
    """Type a command line in this process; what would train, serve or reach a network does not."""
    return type_words(json.loads(path.read_bytes()))


def read_paths(path: Path) -> object:
    """Type a command line with an odd path in a copy of the current folder."""
    return in_place(Path.cwd(), path.read_bytes(), type_words)


def type_words(words: list[str]) -> object:
    """What a command prints; None for one that is not run."""
    from ensgan.cli.app import main
    from ensgan.errors import EnsganError, InputError

    output = io.StringIO()
    try:
        with (
            _harmless(),
            patch("sys.argv", ["ensgan", *words]),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            main()
    except SystemExit as end:
        if end.code not in (0, 1, 2, None):
            raise AssertionError(f"exit code {end.code!r}") from end
        if end.code:
            raise (EnsganError if end.code == 1 else InputError)(output.getvalue()[-300:]) from end
    except NotRunError:
        return None
    return output.getvalue()


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    def refuse(*_: object, **__: object) -> Any:
        raise NotRunError

    def connect(self: socket.socket, place: Any) -> None:
        raise OSError(101, "Network is unreachable")

    before = dict(os.environ)
    places = (
        "ensgan.launch.sweep.run_sweep", "ensgan.launch.sweep.train_one",
        "ensgan.launch.evaluate.evaluate_sweeps", "ensgan.launch.evaluate.evaluate_ensemble",
        "ensgan.ensemble.service.server_for", "ensgan.cluster.session.ray_session",
        "ensgan.store.tracking.serve", "webbrowser.open",
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(patch(place, refuse))
        stack.enter_context(patch("socket.socket.connect", connect))
        os.environ["ENSGAN_DEBUG"] = "1"
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


READERS = {
    reader.name: reader
    for reader in (
        Reader("YAML", "yaml", damage.damage_text, read_spec, 5),
        Reader("manifest", "manifest", damage.damage_json, read_manifest, 6),
        Reader("JSON records", "json", damage.damage_json, read_records, 6),
        Reader("npz", "npz", damage.damage_zip, read_arrays, 6),
        Reader("PNG", "png", damage.damage_png, read_image, 18),
        Reader("TIFF", "tiff", damage.damage_tiff, read_image, 12),
        Reader("DICOM", "dicom", damage.damage_dicom, read_image, 12),
        Reader("CSV labels", "csv", damage.damage_text, read_labels, 8),
        Reader("XLSX labels", "xlsx", damage.damage_zip, read_labels, 8),
        Reader("safetensors", "safetensors", damage.damage_safetensors, read_weights, 20),
        Reader("MLflow answers", "mlflow", damage.damage_json, read_answers, 0.3),
        Reader("command lines", "words", damage.damage_words, read_words, 0.4),
        Reader("paths", "paths", lambda rng, data, others: data, read_paths, 0.2),
    )
}
SUFFIXES = {
    "yaml": ".yaml", "manifest": ".json", "json": ".json", "npz": ".npz", "png": ".png",
    "tiff": ".tif", "dicom": ".dcm", "csv": ".csv", "xlsx": ".xlsx",
    "safetensors": ".safetensors", "mlflow": ".json", "words": ".json",
    "paths": ".json",
}  # fmt: skip
