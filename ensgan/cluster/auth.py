"""Whoever reaches an open Ray cluster can run code on all of its nodes."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sysconfig
from pathlib import Path

import ray

from ensgan.errors import InputError, last_line

ANSWER_SECONDS = 60.0


def refuse_open_cluster() -> None:
    """Refuse the cluster this process has joined if anybody who reaches it may use it.

    Raises:
        InputError: it takes requests without a token, from other machines too, or nobody can say.
    """
    address = str(ray.get_runtime_context().gcs_address)
    if is_loopback(address.rpartition(":")[0]):
        return
    # Ray's mutual TLS (for all processes or none) turns away whoever holds no certificate.
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return
    if answers_without_token(address):
        raise InputError(
            f"the Ray cluster at {address} takes requests from anybody who reaches it, and with "
            "them any code: start it with RAY_AUTH_MODE=token on every node (docs/cluster.md), or "
            "insist with --allow-open-cluster"
        )


def is_loopback(host: str) -> bool:
    """The address is of this machine alone."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host.strip("[]"), None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)


def answers_without_token(address: str) -> bool:
    """Whether the cluster answers Ray's own command when that sends no token.

    Another process asks, because Ray reads its token once per process and this one may hold it.

    Raises:
        InputError: the command neither got an answer nor was turned away for its token.
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
