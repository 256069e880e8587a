#!/usr/bin/env python3
"""Run one benchmark: ours and the peer in one run, on one machine, with the ratio.

Usage: scripts/bench.py WHAT [--json] [options of that benchmark]
WHAT is the name of a module beside this file: ``bench_WHAT.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ensgan.errors import EnsganError
from ensgan.sweep.environment import commit, processor

HERE = Path(__file__).resolve().parent


def available() -> list[str]:
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def load(what: str) -> ModuleType:
    path = HERE / f"bench_{what}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def circumstances() -> dict[str, Any]:
    """What figures depend on, as it is before the benchmark runs."""
    return {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "processor": processor(),
        "python": platform.python_version(),
        "commit": commit(),
        "load": os.getloadavg()[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("what", nargs="?", choices=available())
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-h", "--help", action="store_true")
    known, rest = parser.parse_known_args()
    if known.what is None:
        parser.print_help()
        return 0 if known.help else 2
    module = load(known.what)
    options = argparse.ArgumentParser(prog=f"bench.py {known.what}", description=module.__doc__)
    module.add_arguments(options)
    if known.help:
        options.print_help()
        return 0
    chosen = options.parse_args(rest)
    machine = circumstances()
    try:
        result = module.run(chosen)
    except EnsganError as error:
        print(f"bench.py {known.what}: {error}", file=sys.stderr)
        return error.exit_code
    result = {"benchmark": known.what, "machine": machine, **result}
    if known.json:
        print(json.dumps(result))
    else:
        module.show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
