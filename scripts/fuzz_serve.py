#!/usr/bin/env python3
"""Fuzz a running ``ensgan serve`` and watch its memory.

Two kinds of input: requests that schemathesis (the development extra) makes from the service's
own OpenAPI, valid ones and broken ones; and valid requests whose bytes are damaged at random before
they are sent. The service must stay up, answer nothing with 5xx and not grow. Prints one JSON
object; the log of schemathesis goes to --log.

Example: scripts/fuzz_serve.py --examples 300 --damaged 20000 --log fuzz.log
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil

TOKEN = "a-secret-for-the-fuzzer"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection"
)
CLIENTS = 32
MOST_GROWTH_MB = 48
"""Of the server's memory over the whole run; allocators keep some of what they once had."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100, help="of each operation and phase")
    parser.add_argument("--damaged", type=int, default=2000, help="requests of damaged bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("serve-fuzz.log"))
    args = parser.parse_args()
    result = fuzz(args.examples, args.damaged, args.seed, args.log)
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


def fuzz(examples: int, damaged: int, seed: int, log: Path) -> dict[str, object]:
    """Start the service, send it everything, and report."""
    with tempfile.TemporaryDirectory(prefix="ensgan-fuzz-") as name:
        port = free_port()
        server = start(make_ensemble(Path(name)), port)
        try:
            warm_up(port)
            process = psutil.Process(server.pid)
            memory = [megabytes(process)]
            begin = time.perf_counter()
            code, described = run_schemathesis(port, examples, seed, log, Path(name) / "counts")
            memory.append(megabytes(process))
            broken = send_damaged(port, damaged, seed)
            memory.append(megabytes(process))
            statuses = [key.split()[-1] for key in (*described, *broken)]
            ended = server.poll()
            return {
                "passed": code == 0
                and ended is None
                and not any(status.startswith("5") for status in statuses)
                and memory[-1] - memory[0] <= MOST_GROWTH_MB,
                "inputs": sum(described.values()) + sum(broken.values()),
                "from_openapi": dict(sorted(described.items())),
                "damaged": dict(sorted(broken.items())),
                "schemathesis_exit_code": code,
                "seconds": round(time.perf_counter() - begin, 1),
                "examples": examples,
                "seed": seed,
                "memory_mb": {
                    "before": memory[0],
                    "after_openapi": memory[1],
                    "after_damaged": memory[2],
                },
            }
        finally:
            server.terminate()
            server.wait(30)


def megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def make_ensemble(folder: Path) -> Path:
    """Two banks of small images."""
    from ensgan.ensemble import MemberSource, write_bank, write_ensemble
    from ensgan.types import ImageShape, Samples

    rng = np.random.default_rng(0)
    sources = []
    for name in ("A@1", "B@2"):
        images = rng.integers(0, 256, (2000, 8, 8), dtype=np.uint8)
        labels = np.arange(2000, dtype=np.int64) % 2
        path = write_bank(folder / f"{name}.safetensors", Samples(images, labels))
        sources.append(MemberSource(name, 1.0, path, kind="bank"))
    return write_ensemble(
        folder / "ensemble",
        members=sources,
        shape=ImageShape(1, 8),
        class_names=["normal", "pneumonia"],
        class_shares=[0.5, 0.5],
        metrics={},
        dataset={"name": "phantom"},
        extractor={"name": "random"},
        provenance={},
        licences=[],
    )


def start(ensemble: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ensgan", "serve", str(ensemble), "--port", str(port)]
    return subprocess.Popen(
        command, env={**os.environ, "ENSGAN_TOKEN": TOKEN}, stdout=subprocess.DEVNULL
    )


def warm_up(port: int) -> None:
    """Wait for the service, and let it do everything once."""
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5)
            break
        except OSError:
            time.sleep(0.5)
    for form in ("json", "npz"):
        body = json.dumps({"n": 200, "format": form}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        for _ in range(5):
            urllib.request.urlopen(
                urllib.request.Request(f"{address}/sample", body, headers), timeout=60
            ).read()


def run_schemathesis(
    port: int, examples: int, seed: int, log: Path, counts: Path
) -> tuple[int, dict[str, int]]:
    """Its exit code, and how often each address gave each status."""
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run"),
        f"http://127.0.0.1:{port}/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--max-examples", str(examples), "--seed", str(seed)),
        *("--phases", "examples,coverage,fuzzing", "--mode", "all", "--checks", CHECKS),
        *("--continue-on-failure", "--request-timeout", "60", "--no-color"),
        *("--generation-database", "none"),
    ]
    here = Path(__file__).resolve().parent
    settings = {
        "SCHEMATHESIS_HOOKS": "fuzz_counts",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH")))),
        "ENSGAN_FUZZ_COUNTS": str(counts),
    }
    with log.open("w") as stream:
        code = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **settings}
        ).returncode
    return code, json.loads(counts.read_text()) if counts.exists() else {}


def send_damaged(port: int, count: int, seed: int) -> Counter[str]:
    """How often valid requests with damaged bytes got each status, or none.

    A damaged length can leave the service waiting for a rest that never comes; the client then
    hangs up, as real ones do.
    """

    def one(index: int) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.settimeout(0.5)
            try:
                client.sendall(damaged_request(random.Random(f"{seed}:{index}")))
                line = client.recv(64)
                while client.recv(65536):
                    pass
            except TimeoutError:
                return "waits for the rest"
            except OSError:
                return "hung up"
        words = line.split(b" ")
        return words[1].decode() if len(words) > 1 else "hung up"

    with ThreadPoolExecutor(CLIENTS) as pool:
        return Counter(pool.map(one, range(count)))


def damaged_request(rng: random.Random) -> bytes:
    """A valid request with some bytes changed, dropped or repeated."""
    body = json.dumps(
        {
            "n": rng.choice((1, 3, 10**9)),
            "seed": rng.randrange(2**63),
            "format": rng.choice(("json", "npz")),
        }
    ).encode()
    request = bytearray(
        b"POST /sample HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
        % (TOKEN.encode(), len(body))
        + body
    )
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        place = rng.randrange(len(request))
        what = rng.randrange(4)
        if what == 0:
            request[place] = rng.randrange(256)
        elif what == 1:
            del request[place : place + rng.randrange(1, 9)]
        elif what == 2:
            request[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        else:
            request[place:place] = request[place : place + 40]
        if not request:
            break
    return bytes(request)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
