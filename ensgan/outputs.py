"""Places that commands write to or listen on: checked once, before any work."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ensgan.errors import InputError
from ensgan.files import not_written
from ensgan.inputs import kind


def claim_output(
    path: Path,
    *,
    inputs: Iterable[Path | None] = (),
    outputs: Iterable[Path | None] = (),
    is_ours: Callable[[Path], bool] | None = None,
    force: bool = False,
) -> Path:
    """Refuse a file to write that would destroy something.

    Args:
        inputs: files and folders that the command reads.
        outputs: its other outputs.
        is_ours: whether an existing file is one that the command wrote before and may replace;
            None where it replaces no file, not even its own.
        force: replace a plain file whatever it holds.

    Returns:
        ``path``.

    Raises:
        InputError: it is a folder, a device or a pipe; it is, links followed, an input or another
            output; something else lies there; or its folder cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    if kind(path) == "special":  # a rename would put a plain file in its place
        raise InputError(f"cannot write {path}: it is no plain file; name another one")
    read = [entry for entry in inputs if entry is not None]
    for other in (*read, *(entry for entry in outputs if entry is not None)):
        if _is_same(path, other):
            what = "read" if other in read else "written"
            raise InputError(
                f"cannot write {path}: it is {other}, which this command has {what} too; name "
                "another file"
            )
    if path.exists() and not (is_ours is not None and is_ours(path)):
        # A folder among the inputs: new files and our own may lie in it, its other files stay.
        for folder in filter(Path.is_dir, read):
            if path.resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"cannot write {path}: it is a file of {folder}, which this command reads; "
                    "name another file"
                )
        # An empty file (mktemp, touch) holds nothing to lose.
        if path.stat().st_size > 0 and not force:
            why = "" if is_ours is None else ", and this command did not write it"
            raise InputError(
                f"{path} exists already{why}: name another, or replace it with --force"
            )
    refuse_unwritable(path)
    return path


def claim_folder(
    path: Path, *, inputs: Iterable[Path | None] = (), is_ours: Callable[[Path], bool] | None = None
) -> Path:
    """Refuse a folder to write that would destroy something.

    Args:
        inputs: files and folders that the command reads.
        is_ours: whether a folder that is not empty holds only what the command wrote before; None
            where it must be new or empty.

    Returns:
        ``path``.

    Raises:
        InputError: it is a file, a link or a device; it holds other things; it is, holds or lies
            in an input; or the folder above cannot be written to.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"{path} exists already and is no folder: name a new or empty folder")
    for other in (entry for entry in inputs if entry is not None):
        place, read = path.resolve(), other.resolve()
        if place == read or read.is_relative_to(place):
            raise InputError(f"cannot write {path}: this command reads {other}; name a new folder")
    if path.is_dir() and any(path.iterdir()) and not (is_ours is not None and is_ours(path)):
        what = "exists already" if is_ours is None else "holds other files"
        raise InputError(f"{path} {what}: name a new or empty folder")
    refuse_unwritable(path)
    return path


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def claim_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        InputError: another program has it, it needs rights, or there is no such address.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise InputError(
                f"port {port} of {host} is in use by another program{_owner(port)}: end that, or "
                "name another --port"
            ) from error
        raise InputError(
            f"cannot listen on port {port} of {host}: {error.strerror or error}; name another "
            "--port"
        ) from error


def _owner(port: int) -> str:
    """Which program listens on a port, in brackets; empty where this machine will not tell."""
    import psutil  # not before: it takes 14 ms of every start

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" ({psutil.Process(connection.pid).name()}, process {connection.pid})"
    except psutil.Error:
        pass
    return ""


def _is_same(first: Path, second: Path) -> bool:
    """Whether two paths name one file, through links and ``..`` too."""
    try:
        return first.samefile(second)
    except OSError:
        return first.resolve() == second.resolve()


def refuse_unwritable(path: Path) -> None:
    """Refuse a place below something that is no folder or may not be written to.

    Raises:
        InputError: names what is above it.
    """
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"cannot write {path}: {above} is no folder that you may write to; name another place"
        )


@contextmanager
def folder_in_one_step(destination: Path) -> Iterator[Path]:
    """Yield a new folder beside ``destination`` that takes its place when the block ends well.

    What was there is removed: callers have checked that it may be (:func:`claim_folder`).

    Raises:
        InputError: files have come into a place that was new or empty.
        StoreError: the disk cannot be written.
    """

    def holds_files() -> bool:
        return destination.is_dir() and any(destination.iterdir())

    replaces = holds_files()
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{destination.name}.", dir=destination.parent
        ) as name:
            made, replaced = Path(name) / "new", Path(name) / "old"
            made.mkdir(mode=0o755)
            yield made
            if holds_files() and not replaces:
                raise InputError(f"{destination} was filled by another program: name a new folder")
            # Renames only: others see the old folder, none for a moment, or the new one.
            if destination.exists():
                destination.rename(replaced)
            try:
                made.rename(destination)
            except OSError:
                if replaced.exists():
                    replaced.rename(destination)
                raise
    except OSError as error:
        raise not_written(destination, error.strerror or str(error)) from error


def take_lock(lock: int, seconds: float) -> None:
    """Take an exclusive lock of an open file, waiting so long for another process.

    Raises:
        OSError: the other one still holds it.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextmanager
def one_at_a_time(lock_file: Path) -> Iterator[None]:
    """Wait until no other process is in a block with this lock file; the file is made and stays.

    On a file system without locks the block runs unguarded, which costs work done twice: what is
    written appears in one step anyway.

    Raises:
        StoreError: the lock file cannot be written.
    """
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        stream = lock_file.open("a")  # a link in a shared folder may lead to a file: it stays
    except OSError as error:
        raise not_written(lock_file, error.strerror or str(error)) from error
    with stream:
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
