"""Fetching one file over HTTP: resumed after a break, tried again, verified, then put in place."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from ensgan.data.archive import md5_file
from ensgan.errors import DataError, StoreError

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def download(
    url: str,
    path: Path,
    *,
    md5: str,
    attempts: int = 4,
    wait: float = 1.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fetch ``url`` to ``path``; nothing appears at ``path`` unless its MD5 is right.

    What has arrived stays in ``path`` + ``.part``, so that the next attempt, or the next run,
    goes on from there.

    Args:
        url: an http or https address.
        path: where the file goes; its folder must exist.
        md5: the published checksum.
        attempts: how often to try in all.
        wait: seconds before the second attempt, doubled before each later one.
        on_progress: called with (bytes so far, bytes in all).

    Raises:
        DataError: the address cannot be reached, or serves another file.
        StoreError: the folder cannot be written.
    """
    if not url.startswith(("https://", "http://")):
        raise DataError(f"{url} is not an http address")
    part = path.with_name(path.name + ".part")
    reason = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            _continue(url, part, on_progress)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} {error.reason}"
            if error.code == 416:
                part.unlink(missing_ok=True)  # the part is longer than the file: begin anew
            elif error.code < 500 and error.code != 429:
                break
            continue
        except urllib.error.URLError as error:
            reason = f"no connection: {error.reason}"
            continue
        except (TimeoutError, ConnectionError, HTTPException) as error:
            reason = f"the connection broke: {error}"
            continue
        if md5_file(part) == md5:
            part.replace(path)
            return
        reason = f"what arrived has MD5 {md5_file(part)}, not {md5}"
        part.unlink()
    raise DataError(f"{reason}, {attempt + 1} of {attempts} attempts")


def _continue(url: str, part: Path, on_progress: Callable[[int, int], None] | None) -> None:
    """Append what is missing of ``url`` to ``part``."""
    try:
        have = part.stat().st_size if part.exists() else 0
        stream = part.open("ab")
    except OSError as error:
        raise StoreError(f"cannot write {part}: {error.strerror}") from error
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with stream, urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if have and answer.status != 206:  # the server sends the whole file again
            stream.truncate(0)
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        while block := answer.read(_BLOCK):
            _write(stream, block, part)
            have += len(block)
            if on_progress is not None and total:
                on_progress(have, total)
    if total and have < total:
        raise ConnectionError(f"{have} of {total} bytes arrived")


def _write(stream: BinaryIO, block: bytes, part: Path) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        raise StoreError(
            f"cannot write {part} ({error.strerror}): make room, then run the same command again"
        ) from error
