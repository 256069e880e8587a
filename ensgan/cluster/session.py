"""Starting, joining and leaving Ray quietly; open clusters are joined only on request."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from ensgan.errors import EnsganError, InputError, last_line
from ensgan.files import first_bytes
from ensgan.outputs import is_loopback

ANSWER_SECONDS = 60.0


def refuse_open_cluster() -> None:
    """Refuse the cluster that this process has joined if it can be used without a token.

    Raises:
        InputError: other machines can use it without a token, or that cannot be found out.
    """
    address = str(ray.get_runtime_context().gcs_address)
    if is_loopback(address.rpartition(":")[0]):
        return
    # With Ray's mutual TLS, which is on for all processes or none, a certificate is needed.
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    if answers_without_token(address):
        raise InputError(
            f"the Ray cluster at {address} takes requests from anybody who reaches it, and with "
            "them any code: start it with RAY_AUTH_MODE=token on every node (docs/cluster.md), or "
            "insist with --allow-open-cluster"
        )


def answers_without_token(address: str) -> bool:
    """Whether the cluster answers Ray's own command when that sends no token.

    Another process asks, because Ray reads the token once per process and this one may have it.

    Raises:
        InputError: the command got no answer, but was not refused for a missing token either.
    """
    without = {name: text for name, text in os.environ.items() if "RAY_AUTH_TOKEN" not in name}
    command = [str(Path(sysconfig.get_path("scripts"), "ray")), "status", f"--address={address}"]
    env = {**without, "RAY_AUTH_MODE": "disabled"}
    reason: BaseException | str
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
        if done.returncode == 0:
            return True
        if "AuthenticationError" in done.stderr:  # Ray's name for a token that is not there
            return False
        reason = done.stderr or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error
    raise InputError(
        f"it is unknown whether the Ray cluster at {address} asks for a token, so it is not used "
        f"({last_line(reason)[:300]}): insist with --allow-open-cluster"
    )


OBJECT_STORE_BYTES = 200 * 2**20
"""Jobs pass paths, not arrays: a small object store suffices and leaves memory for training."""
CONNECT_SECONDS = 5.0
START_ATTEMPTS = 3
LONGEST_SOCKET = 107
"""Bytes of a Unix socket's name on Linux."""
SOCKET_BELOW = "/ray/session_2026-11-27_13-24-28_279861_4194304/sockets/plasma_store"
"""The longest path that Ray appends to the folder of temporary files."""

_HELP = "start one with `ray start --head` or `ray up ray_cluster.yaml`, or use --address local"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # On a busy machine Ray's agent starts too late for the default of 15 s, and Ray ends itself.
    "RAY_agent_register_timeout_ms": "60000",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune would end its run as if it were complete, and the sweep would go on with half a pool.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # ASHA would end the whole sweep over a single report without Intra-d, such as an error.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # ensgan never restores Tune's state, so writing it once at the end is enough.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Variables that Ray and Tune read when they start or run; the user's own take precedence."""
_LOGGERS = {"ray": logging.ERROR, "ray.tune": logging.CRITICAL}


@contextmanager
def ray_session(
    address: str = "local",
    *,
    cpus: int | None = None,
    gpus: int | None = None,
    allow_open_cluster: bool = False,
) -> Iterator[None]:
    """Join a running cluster (``auto``, ``host:port``) or start one for this process.

    An existing connection of this process is used and left open. Environment variables and log
    levels are restored when the body has ended.

    Args:
        address: ``local``, ``auto`` or ``HOST:PORT``.
        cpus, gpus: of a local one; None: those of this machine.
        allow_open_cluster: join a cluster that takes requests from anybody who reaches it.

    Raises:
        InputError: no cluster answers at the address, or it is an open one.
    """
    check_address(address)
    unset = {name: text for name, text in _ENVIRONMENT.items() if name not in os.environ}
    with environment(unset), _log_levels(), _ends_are_interrupts() as after_connecting:
        ours = not ray.is_initialized()
        if ours:
            _connect(address, cpus, gpus)
            after_connecting()
        try:
            if address != "local" and not allow_open_cluster:
                refuse_open_cluster()
            yield
        finally:
            if ours:
                ray.shutdown()


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's description of every living node, with ``Resources`` and ``NodeID``."""
    return [node for node in ray.nodes() if node["Alive"]]


def node_resources() -> list[dict[str, float]]:
    """Amounts by Ray's resource name, for every living node."""
    return [node["Resources"] for node in alive_nodes()]


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the body runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


@contextmanager
def _ends_are_interrupts() -> Iterator[Callable[[], None]]:
    """Treat SIGTERM and SIGHUP like ctrl-C, from the call of the yielded function on.

    Ray's own handler of SIGTERM dumps C++ frames and aborts; without any, its processes stay for a
    minute. Handlers that the caller has set, and an ignored SIGHUP, stay as they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    answers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    # None means a handler from outside of Python, which Python cannot restore.
    before = {number: answer for number, answer in answers.items() if answer is not None}

    def after_connecting() -> None:
        for number, answer in before.items():
            is_default = answer is signal.SIG_DFL
            signal.signal(number, signal.default_int_handler if is_default else answer)

    try:
        yield after_connecting
    finally:
        for number, answer in before.items():
            signal.signal(number, answer)


@contextmanager
def _log_levels() -> Iterator[None]:
    """Keep Ray's own messages from the terminal while the body runs."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _away() -> Iterator[None]:
    """Change to the root folder while the body runs.

    Ray's workers import from the folder where Ray was started before any installed package: a
    user's ``statistics.py`` would replace Python's.
    """
    here = Path.cwd()
    os.chdir(here.anchor)
    try:
        yield
    finally:
        os.chdir(here)


def _connect(address: str, cpus: int | None, gpus: int | None = None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address == "local":
            _start(num_cpus=cpus, num_gpus=gpus, **quiet)
        else:
            with _away():
                ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        if _turned_away(address):
            raise InputError(
                f"the Ray cluster at {address} asks for a token and turned this process away: "
                f"{_token_problem()} (docs/cluster.md)"
            ) from error
        raise InputError(f"no Ray cluster at '{address}': {error}; {_HELP}") from error


def _turned_away(address: str) -> bool:
    """Whether a cluster is there and refuses requests without a token."""
    try:
        return ":" in address and not answers_without_token(address)
    except InputError:  # unknown
        return False


def _token_problem() -> str:
    """What may be wrong with this process's token, as the end of a sentence."""
    held = [name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)]
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return "set RAY_AUTH_MODE=token here too"
    if not held:
        return "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's"
    if held == ["RAY_AUTH_TOKEN_PATH"] and not first_bytes(Path(os.environ[held[0]]), 1).strip():
        return f"{os.environ[held[0]]}, which {held[0]} names, cannot be read or is empty"
    return f"what {' and '.join(held)} names is not the cluster's token"


def _start(**options: Any) -> None:
    """Start Ray on this machine; a busy one can miss Ray's deadline of 30 s, hence the retries.

    Raises:
        EnsganError: it does not come up.
    """
    python = shlex.quote(sys.executable)
    if python != sys.executable:  # Ray passes it to a shell unquoted: no worker would start
        options["runtime_env"] = {"py_executable": python}
    for attempt in range(START_ATTEMPTS):
        try:
            # "local" starts a new one, even where another Ray runs on this machine.
            with _away():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **options,
                )
        except Exception as error:  # Ray raises bare ones
            ray.shutdown()
            if attempt == START_ATTEMPTS - 1:
                raise EnsganError(
                    f"Ray does not start on this machine ({error}): free memory and CPU, or use "
                    "--address none, which needs no Ray"
                ) from error
        else:
            return


def _check_temporary_folder() -> None:
    """Refuse a folder of temporary files that would make the names of Ray's sockets too long.

    Raises:
        InputError: its path is too long, as in some batch jobs.
    """
    folder = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    longest = LONGEST_SOCKET - len(SOCKET_BELOW)
    if len(os.fsencode(folder)) > longest:
        raise InputError(
            f"Ray cannot make its sockets below {folder}: their names would be too long; set "
            f"TMPDIR or RAY_TMPDIR to a folder of at most {longest} characters, or "
            "use --address none"
        )


def check_address(address: str) -> None:
    """Refuse an address that cannot work, instead of letting Ray try it for a minute.

    Raises:
        InputError: a Ray Client address, no host:port, nobody listens there; for ``local``, a
            folder of temporary files with too long a path.
    """
    if address == "local" and not ray.is_initialized():
        _check_temporary_folder()
    if address in ("local", "auto"):
        return
    if "://" in address:
        raise InputError(
            f"'{address}': from outside of a cluster, run the same command inside it: ray job "
            "submit --address http://127.0.0.1:8265 -- ensgan … --address auto (docs/cluster.md)"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise InputError(f"'{address}' is no address: use local, auto, HOST:PORT or none")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster at '{address}': nobody answers there ({error}); {_HELP}"
        ) from error
