"""Whoever reaches an open Ray cluster can run code on all of its nodes."""

from __future__ import annotations

import ipaddress
import socket

import ray

from ensgan.errors import InputError

ANSWER_SECONDS = 5.0


def refuse_open_cluster() -> None:
    """Refuse the cluster this process has joined if anybody who reaches it may use it.

    Raises:
        InputError: it takes requests without a token, from other machines too.
    """
    address = str(ray.get_runtime_context().gcs_address)
    if is_loopback(address.rpartition(":")[0]) or not answers_without_token(address):
        return
    raise InputError(
        f"the Ray cluster at {address} takes requests from anybody who reaches it, and with them "
        "any code: start it with RAY_AUTH_MODE=token on every node (docs/cluster.md), or insist "
        "with --allow-open-cluster"
    )


def is_loopback(host: str) -> bool:
    """The address is of this machine alone."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host.strip("[]"), None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in found)


def answers_without_token(address: str) -> bool:
    """The cluster's store answers a bare request; a closed or encrypted one does not."""
    import grpc
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    request = gcs_service_pb2.InternalKVKeysRequest(namespace=b"", prefix=b"ensgan")
    with grpc.insecure_channel(address) as channel:
        stub = gcs_service_pb2_grpc.InternalKVGcsServiceStub(channel)
        try:
            stub.InternalKVKeys(request, timeout=ANSWER_SECONDS)
        except grpc.RpcError:
            return False
    return True
