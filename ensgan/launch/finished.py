"""What follows a sweep's end: one message to a web address, the quick answer when it is run again.

That answer comes from its folder, without any stage. Everything that a result depends on is
compared: the spec and the files it names, the data, the code, and the size and time of every file
that the stages would read. If anything differs, there is no quick answer, and the stages look for
themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ensgan
from ensgan.config import SweepSpec, load_spec
from ensgan.errors import EnsganError, InputError, SweepStoppedError
from ensgan.files import MISFITS, content_key, read_json, write_json
from ensgan.outputs import is_loopback
from ensgan.store import open_store
from ensgan.sweep.environment import real_data
from ensgan.sweep.events import Event, OnEvent, warning
from ensgan.sweep.folder import SweepFolder, sweep_folder
from ensgan.text import hide_credentials

RESULTS = (
    *("manifest.json", "recorded.json", "data", "extractor", "train", "samples", "features"),
    *("members", "banks", "scores", "search", "select", "evaluate", "privacy", "ensemble"),
)
"""What the stages read in a sweep's folder."""
_PASSING = ("heartbeat.json", "history.json", "stop")
ANSWER_SECONDS = 10.0
"""Longest wait for the receiver of the message."""


def known_result(
    path: Path, settings: Sequence[str], storage: Path, data_dir: Path | None
) -> dict[str, Any] | None:
    """The result of running the sweep file again if that would change nothing; otherwise None.

    Its ``said`` holds sentences about settings that apply although the file does not name them.

    Args:
        path, settings, storage, data_dir: as for :func:`ensgan.launch.sweep.run_sweep`.
    """
    try:
        spec = load_spec(path, settings=settings)
        folder = sweep_folder(storage.resolve(), spec.name)
        kept = read_json(_file(folder))
        # The cheap comparison first: the key reads the data.
        if any(_state(folder.path / name) != state for name, state in kept["files"].items()):
            return None
        if kept["key"] != _key(spec, path, folder, data_dir):
            return None
        if kept["sum"] != content_key(
            kept["result"], kept["said"]
        ):  # what it would show is damaged
            return None
        return {**kept["result"], "said": kept["said"]}
    except (EnsganError, OSError, *MISFITS):
        return None  # running the sweep reports what is wrong


def remember(
    path: Path,
    settings: Sequence[str],
    folder: SweepFolder,
    data_dir: Path | None,
    result: Mapping[str, Any],
) -> None:
    """Keep the result of a sweep that is finished, recorded and complete."""
    manifest = folder.read()
    if manifest.status != "finished" or len(manifest.members) < manifest.planned:
        return
    if result["run_id"] is None:
        return
    from ensgan.sweep.planning.sweep_file import (
        carried_on,  # imports that known_result does without
    )

    with contextlib.suppress(EnsganError, OSError):  # without it the next run is only slower
        spec = load_spec(path, settings=settings)
        shown = {**result, "stages": dict(manifest.stages)}
        remarks = carried_on(spec, folder)[1]
        value = {
            "key": _key(spec, path, folder, data_dir),
            "sum": content_key(shown, remarks),
            "files": {
                file.relative_to(folder.path).as_posix(): _state(file)
                for file in _files(folder.path / name for name in RESULTS)
                if file.name not in _PASSING
            },
            "result": shown,
            "said": remarks,
        }
        if not _file(folder).exists() or read_json(_file(folder)) != value:
            write_json(_file(folder), value)


def _file(folder: SweepFolder) -> Path:
    return folder.path / "finished.json"


def _key(spec: SweepSpec, path: Path, folder: SweepFolder, data_dir: Path | None) -> str:
    named = [*spec.train.plugins, *([spec.embed.weights] if spec.embed.weights else [])]
    for member in spec.members:
        if member.sweep is not None:  # if that sweep has grown, this one grows too
            here = path.parent if "/" in member.sweep else folder.path.parent
            named.append(str((here / member.sweep).resolve(strict=True) / "manifest.json"))
            continue
        place, colon, name = str(member.generator).rpartition(":")
        file = member.images or (place if colon else name)
        if not (path.parent / file).exists():
            raise FileNotFoundError(file)  # a module, whose content is unknown without running it
        named.append(file)
    code = hashlib.sha256()
    for module in sorted(Path(ensgan.__file__).parent.rglob("*.py")):
        code.update(module.read_bytes())
    added = sorted(
        (point.group, point.name, point.value, point.dist.version if point.dist else "")
        for group in entry_points().groups
        if group.startswith("ensgan.")
        for point in entry_points(group=group)
    )
    return content_key(
        code.hexdigest(),
        added,
        spec.model_dump(mode="json"),
        [str(path.parent.resolve()), str(folder.path)],
        [(str(file), _state(file)) for file in _files(path.parent / name for name in named)],
        open_store(spec.track.uri, storage=folder.path.parents[1]).uri,
        real_data(spec, data_dir).key,
    )


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file())
        elif path.exists():
            yield path


def _state(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def check_receiver(url: str) -> None:
    """Refuse an address to which the message would travel unencrypted.

    Raises:
        InputError: neither https nor http on this machine's loopback.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InputError("--notify is no valid address: check its host and port") from error
    if host and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return
    raise InputError(
        f"--notify '{_shown(url)}': write https://…, or http:// with an address of this machine's "
        "loopback"
    )


def _shown(url: str) -> str:
    """The host of an address, without the path, which is the secret of many services."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}" if parts.scheme else "…"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Sends the message only to the address that was named."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@contextlib.contextmanager
def notifying(
    url: str | None, name: str, on_event: OnEvent
) -> Iterator[tuple[dict[str, Any], OnEvent]]:
    """Post one JSON object when the body ends: ``sweep``, ``state`` (finished, failed, stopped,
    interrupted), ``host``, ``seconds``, ``error``, and what the body has put into the dictionary
    it is given.

    Args:
        url: where to; None posts nothing.
        name: of the sweep, until an event tells its folder.
        on_event: warned of a message that did not arrive, which is no failure of the sweep. The
            body gets another listener, which passes its events on to this one.
    """
    began = time.time()
    value: dict[str, Any] = {"sweep": name, "state": "finished", "host": socket.gethostname()}

    def listen(event: Event) -> None:
        if event.kind == "folder":
            value["sweep"] = Path(event.fields["path"]).name
        on_event(event)

    try:
        yield value, listen
    except SweepStoppedError as error:
        value |= {"state": "stopped", "error": str(error)}
        raise
    except KeyboardInterrupt:
        value["state"] = "interrupted"
        raise
    except Exception as error:
        kind = "" if isinstance(error, EnsganError) else f"{type(error).__name__}: "
        value |= {"state": "failed", "error": hide_credentials(f"{kind}{error}")}
        raise
    finally:
        if url is not None:
            _post(url, {**value, "seconds": round(time.time() - began, 1)}, on_event)


def _post(url: str, value: Mapping[str, Any], on_event: OnEvent) -> None:
    body = json.dumps(value, default=str).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    handlers: list[Any] = [_NoRedirect]
    if url.startswith("http:"):  # loopback, which must not go through a proxy
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=ANSWER_SECONDS):
            return
    except (OSError, ValueError) as error:  # HTTPError is an OSError
        reason = hide_credentials(str(error), url)
        on_event(warning(f"{_shown(url)} was not told how the sweep ended: {reason}"))
