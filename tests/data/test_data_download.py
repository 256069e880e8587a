"""Downloads: resumed, tried again, verified."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ensgan.data.archive import download
from ensgan.errors import DataError, StoreError

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; breaks off after ``cut`` bytes as often as ``breaks`` says."""

    breaks = 0
    cut = 300_000
    ranges = True
    status = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.npz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.server.status:
            self.send_error(self.server.status)
            return
        start = 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: self.server.cut]
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.breaks, server.ranges = 2, ranges
    seen: list[tuple[int, int]] = []
    path = tmp_path / "set.npz"
    download(server.url, path, md5=MD5, wait=0.01, on_progress=lambda *state: seen.append(state))
    assert path.read_bytes() == CONTENT
    assert server.asked[0] is None
    assert all(wanted and wanted.startswith("bytes=") for wanted in server.asked[1:])
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [entry.name for entry in tmp_path.iterdir()] == ["set.npz"]


def test_the_next_run_resumes_what_the_last_one_left(server: Server, tmp_path: Path) -> None:
    server.breaks = 1
    path = tmp_path / "set.npz"
    with pytest.raises(DataError, match=r"broke.*1 of 1 attempts"):
        download(server.url, path, md5=MD5, attempts=1)
    assert not path.exists()
    download(server.url, path, md5=MD5, attempts=1)
    assert path.read_bytes() == CONTENT
    assert server.asked[1] == f"bytes={server.cut}-"


def test_another_file_is_not_put_in_place(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with pytest.raises(DataError, match=f"MD5 {MD5}, not {'0' * 32}"):
        download(server.url, path, md5="0" * 32, attempts=2, wait=0.01)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 2


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (503, 3)])
def test_only_what_may_pass_is_tried_again(
    server: Server, tmp_path: Path, status: int, asked: int
) -> None:
    server.status = status
    with pytest.raises(DataError, match=str(status)):
        download(server.url, tmp_path / "set.npz", md5=MD5, attempts=3, wait=0.01)
    assert len(server.asked) == asked


def test_a_full_disk_is_said_to_be_full(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.npz.part").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"No space left on device.*make room"):
        download(server.url, tmp_path / "set.npz", md5=MD5)


def test_no_connection_and_no_address(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no connection"):
        download("http://127.0.0.1:9/x", tmp_path / "x", md5=MD5, attempts=2, wait=0.01)
    with pytest.raises(DataError, match="not an http address"):
        download("file:///etc/passwd", tmp_path / "x", md5=MD5)
