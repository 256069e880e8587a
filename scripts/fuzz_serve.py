#!/usr/bin/env python3
"""Fuzz a running ``ensgan serve`` through its own OpenAPI, and watch its memory.

schemathesis (the development extra) makes the requests, of both kinds: valid ones and broken ones.
Prints one JSON object; the log of the run goes to --log.

Example: scripts/fuzz_serve.py --examples 300 --log fuzz.log
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil

TOKEN = "a-secret-for-the-fuzzer"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100, help="of each operation and phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("serve-fuzz.log"))
    args = parser.parse_args()
    result = fuzz(args.examples, args.seed, args.log)
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


def fuzz(examples: int, seed: int, log: Path) -> dict[str, object]:
    """Start the service, run schemathesis against it, and report."""
    with tempfile.TemporaryDirectory(prefix="ensgan-fuzz-") as name:
        port = free_port()
        server = start(make_ensemble(Path(name)), port)
        try:
            warm_up(port)
            process = psutil.Process(server.pid)
            before = process.memory_info().rss
            begin = time.perf_counter()
            code = run_schemathesis(port, examples, seed, log)
            text = log.read_text()
            counted = re.findall(r"(\d[\d,]*) generated", text)
            return {
                "passed": code == 0 and server.poll() is None,
                "exit_code": code,
                "test_cases": int(counted[-1].replace(",", "")) if counted else None,
                "seconds": round(time.perf_counter() - begin, 1),
                "examples": examples,
                "seed": seed,
                "memory_before_mb": round(before / 2**20, 1),
                "memory_after_mb": round(process.memory_info().rss / 2**20, 1),
            }
        finally:
            server.terminate()
            server.wait(30)


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


def run_schemathesis(port: int, examples: int, seed: int, log: Path) -> int:
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "run"),
        f"http://127.0.0.1:{port}/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--max-examples", str(examples), "--seed", str(seed)),
        *("--phases", "examples,coverage,fuzzing", "--mode", "all", "--checks", CHECKS),
        *("--continue-on-failure", "--request-timeout", "60", "--no-color"),
        *("--generation-database", "none"),
    ]
    with log.open("w") as stream:
        return subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT).returncode


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
