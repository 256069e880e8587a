"""``.npz`` files of MedMNIST form (three splits of images and labels): fetched, verified, read.

A download is resumed after a break, tried again, verified, and only then put in place.
"""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.data.request import SPLITS, Option
from ensgan.errors import DataError, IntegrityError
from ensgan.files import file_digest, not_written, read_npz, sha256_file
from ensgan.types import Int64Array

KEYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))

CHANNELS = Option("channels", int, None, "convert to grey (1) or RGB (3)", choices=(1, 3))
ACCEPT = Option(
    "accept_checksum",
    str,
    None,
    "MD5 or SHA-256 of a file to accept in place of the official one, or 'any'",
)
TARGET = Option(
    "target",
    str,
    "any",
    "for multi-label sets: 'any' finding against none, or the name of one finding",
)
FILE_OPTIONS = (CHANNELS, ACCEPT, TARGET)

_BLOCK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The six arrays of a file, checked for type and shape.

    Raises:
        DataError: missing, unreadable, truncated, or not of MedMNIST form.
    """
    arrays = read_npz(path, KEYS)
    problems = []
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        is_colour = images.ndim == 4 and images.shape[3] == 3
        if images.dtype != np.uint8 or not (images.ndim == 3 or is_colour):
            problems.append(
                f"{split}_images must be uint8 [n,H,W] or [n,H,W,3], "
                f"not {images.dtype} {list(images.shape)}"
            )
        elif not len(images):
            problems.append(f"{split}_images is empty")
        elif images.shape[1:] != arrays["train_images"].shape[1:]:
            problems.append(f"{split}_images are not of the size of train_images")
        if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2):
            problems.append(
                f"{split}_labels must be integers [n] or [n,L], "
                f"not {labels.dtype} {list(labels.shape)}"
            )
        elif len(labels) != len(images):
            problems.append(f"{split} has {len(images)} images but {len(labels)} labels")
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    return arrays


def md5_file(path: Path) -> str:
    """Hexadecimal MD5 of a file's content (MedMNIST publishes MD5 sums)."""
    return file_digest(path, hashlib.md5(usedforsecurity=False))


def require_checksum(path: Path, accepted: str | None, official: str | None) -> None:
    """Refuse a file whose checksum is neither the official nor an accepted one.

    Args:
        path: the file.
        accepted: None, ``"any"``, or an MD5 or SHA-256 in hexadecimal.
        official: the published MD5, or None where there is none.

    Raises:
        IntegrityError: with the checksum found and how to accept it.
    """
    if accepted == "any":
        return
    md5 = md5_file(path)
    if md5 == official:
        return
    if accepted is not None:
        if accepted.lower() in (md5, sha256_file(path)):
            return
        raise IntegrityError(
            f"{path} has MD5 {md5}, not the accepted checksum {accepted}: "
            "it has changed since you accepted it"
        )
    raise IntegrityError(
        f"{path} has MD5 {md5}, but the official {path.name} has {official}: it is damaged or "
        "was packed anew; get the official file, or, if you trust this one, accept it with "
        f"'accept_checksum: \"{md5}\"' under dataset.options in the sweep file "
        f"(--accept-checksum {md5} for 'ensgan data check')"
    )


def reduce_labels(
    arrays: dict[str, npt.NDArray[Any]], names: tuple[str, ...], target: str, path: Path
) -> tuple[dict[str, Int64Array], tuple[str, ...]]:
    """One class index per image, and the class names.

    Multi-label rows [n,L] become two classes: with any finding (``target="any"``) or with the
    finding named ``target``, against without.

    Raises:
        DataError: labels outside the classes, or an unknown target.
    """
    raw = {split: np.asarray(arrays[f"{split}_labels"], np.int64) for split in SPLITS}
    width = {split: 1 if rows.ndim == 1 else rows.shape[1] for split, rows in raw.items()}
    if len(set(width.values())) > 1:
        raise DataError(f"{path}: the splits have different numbers of labels per image: {width}")
    if width["train"] > 1:
        known = names or tuple(str(index) for index in range(width["train"]))
        if target not in ("any", *known):
            raise DataError(
                f"{path}: option target must be 'any' or one of {', '.join(known)}, not '{target}'"
            )
        finding = "finding" if target == "any" else target
        columns = slice(None) if target == "any" else [known.index(target)]
        present = {split: (rows[:, columns] > 0).any(axis=1) for split, rows in raw.items()}
        reduced = {split: np.asarray(rows, np.int64) for split, rows in present.items()}
        return reduced, (f"no {finding}", finding)
    flat = {split: rows.reshape(-1) for split, rows in raw.items()}
    low = min(int(rows.min()) for rows in flat.values())
    high = max(int(rows.max()) for rows in flat.values())
    count = len(names) or high + 1
    if low < 0 or high >= count or count > 1000:
        raise DataError(f"{path}: labels must be class indices 0…{count - 1}, found {low}…{high}")
    return flat, names or tuple(str(index) for index in range(count))


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
        except (TimeoutError, ConnectionError, SSLError, HTTPException) as error:
            reason = f"the connection broke: {error}"
            continue
        except OSError as error:
            raise not_written(part, error.strerror or str(error)) from error
        if md5_file(part) == md5:
            part.replace(path)
            return
        reason = f"what arrived has MD5 {md5_file(part)}, not {md5}"
        part.unlink()
    raise DataError(f"{reason}, {attempt + 1} of {attempts} attempts")


def _continue(url: str, part: Path, on_progress: Callable[[int, int], None] | None) -> None:
    """Append what is missing of ``url`` to ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with part.open("ab") as stream, urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        if have and answer.status != 206:  # the server sends the whole file again
            stream.truncate(0)
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        while block := answer.read(_BLOCK):
            stream.write(block)
            have += len(block)
            if on_progress is not None and total:
                on_progress(have, total)
    if total and have < total:
        raise ConnectionError(f"{have} of {total} bytes arrived")
