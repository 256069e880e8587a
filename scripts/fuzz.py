#!/usr/bin/env python3
"""Give every reader of foreign input damaged inputs and count what becomes of them.

An input is accepted, refused in a sentence (an ``EnsganError``), or a FAULT: any other exception, a
refusal that says nothing, more than 10 s of computing (or a minute), more than 2 GB, or the end of
the process. Input i of a reader depends on the seed, the reader and i alone: ``--reader NAME --only
i`` reads it again. The smallest input of every kind of fault is kept.

Exit code: 0 without faults, or where those of an earlier ``--state`` are none any more; else 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
sys.path.insert(0, str(Path(__file__).parent))

from fuzz_page import Counts, page, table
from fuzz_readers import READERS, SUFFIXES, Reader
from fuzz_seeds import Seeds

SECONDS, MOST_BYTES = 10.0, 2 << 30
BATCH = 2000
"""Inputs of one child process; the next begins afresh."""
ROUND = 20_000
"""Inputs of all readers before the first reader's turn comes again."""
MOST_AGAIN = 20
"""Inputs of a kind of fault that are read again at the end."""
LONGEST_SENTENCE = 6000


class HangError(BaseException):
    """An input took too long; no reader may catch it."""


def make_input(reader: Reader, seeds: Sequence[bytes], seed: int, index: int) -> bytes:
    """Input ``index`` of a reader."""
    rng = Random(f"{seed}/{reader.name}/{index}")
    return reader.damage(rng, rng.choice(seeds), seeds)


def judge(reader: Reader, path: Path) -> tuple[str, str]:
    """What becomes of the input at a path: an outcome, and for a FAULT its kind."""
    from ensgan.errors import EnsganError

    try:
        reader.read(path)
    except EnsganError as error:
        said = str(error)
        if _of_memory(error):
            return "FAULT", f"asks for more than {3 * MOST_BYTES >> 30} GB: {_place(error)}"
        if not said.strip() or len(said) > LONGEST_SENTENCE or "Traceback" in said:
            return "FAULT", f"no sentence ({len(said)} signs): {_place(error)}"
        return "refused", ""
    except HangError as error:
        return "FAULT", f"longer than {SECONDS:g} s: {_place(error)}"
    except BaseException as error:
        return "FAULT", f"{type(error).__name__}: {_place(error)}"
    return "accepted", ""


def _of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """Where in ensgan an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/ensgan/" in frame.filename] or frames[-1:]
    if not own:
        return "?"
    last = own[-1]
    return f"{last.filename.rpartition('/ensgan/')[2]}:{last.lineno} {last.name}"


def in_children(
    reader: Reader, seeds: Sequence[bytes], seed: int, indices: range, home: Path
) -> Iterator[tuple[int, str, str, float, int]]:
    """Index, outcome, kind of fault, seconds and peak bytes of every input.

    Children are forked, one batch after another; one that dies has its input counted as a fault.
    """
    at = indices.start
    while at < indices.stop:
        stop = min(indices.stop, at + BATCH)
        note = mmap.mmap(-1, 8)  # the input that the child has begun with
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(reader, seeds, seed, range(at, stop), home, note, writing)
        os.close(writing)
        with os.fdopen(reading) as stream:
            for line in stream:
                found = json.loads(line)
                at = found[0] + 1
                yield tuple(found)
        _, status = os.waitpid(child, 0)
        if at < stop and int.from_bytes(note[:], "little") == at:
            code = os.waitstatus_to_exitcode(status)
            yield at, "FAULT", f"the process ended with {code}", 0.0, 0
            at += 1


def _child(
    reader: Reader,
    seeds: Sequence[bytes],
    seed: int,
    indices: range,
    home: Path,
    note: mmap.mmap,
    writing: int,
) -> None:
    """Judge a batch and leave the process, whatever happens."""
    try:
        _limit_memory()
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # OpenMP's other threads stayed in the parent: it would wait
        warnings.simplefilter("ignore")
        scratch = home / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        if reader.seeds in ("words", "paths"):
            shutil.copytree(home / "place", scratch)
            (scratch / "made").mkdir(exist_ok=True)
        else:
            scratch.mkdir()
        os.chdir(scratch)
        # What readers print is not wanted; what they leave open is closed with the process.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        path = scratch / f"input{SUFFIXES[reader.seeds]}"
        with os.fdopen(writing, "w") as results:
            for index in indices:
                content = make_input(reader, seeds, seed, index)
                note[:] = index.to_bytes(8, "little")
                found = _timed(reader, path, content)
                print(json.dumps([index, *found]), file=results, flush=True)
                if found[-1] > MOST_BYTES:
                    break  # the peak stays: another process goes on
    finally:
        os._exit(0)


def _limit_memory() -> None:
    """An end to what this process may ask for, above what it may use."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + 3 * MOST_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _timed(reader: Reader, path: Path, content: bytes) -> tuple[str, str, float, int]:
    begin, busy = time.monotonic(), time.process_time()

    def used() -> float:
        """Seconds of computing, or a sixth of those of waiting: others may have the machine."""
        return max(time.process_time() - busy, (time.monotonic() - begin) / 6)

    def look(*_: object) -> None:
        if used() > SECONDS:
            raise HangError

    path.write_bytes(content)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS / 4)
    # What hangs below Python never sees the signal: the process ends, and that is counted.
    faulthandler.dump_traceback_later(7 * SECONDS, exit=True)
    try:
        outcome, kind = judge(reader, path)
    except HangError:
        outcome, kind = "FAULT", ""
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    seconds = used()
    if seconds > SECONDS:
        outcome, kind = "FAULT", kind or f"longer than {SECONDS:g} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    if peak > MOST_BYTES and outcome != "FAULT":
        outcome, kind = "FAULT", f"uses more than {MOST_BYTES >> 30} GB"
    return outcome, kind, seconds, peak


def fuzz(
    inputs: int,
    seed: int,
    names: Sequence[str],
    home: Path,
    crashes: Path | None = None,
    state: Path | None = None,
    minutes: float = float("inf"),
) -> dict[str, Counts]:
    """Run all inputs in rounds of all readers, so that a run that is ended has seen every one.

    Args:
        inputs: of all readers together, by their shares.
        names: of the readers.
        home: a scratch folder.
        crashes: keeps the smallest input of every kind of fault.
        state: goes on from the counts in this file, and keeps them there.
        minutes: no round begins later.
    """
    found = _read_state(state, names)
    made, begin = Seeds(home), time.monotonic()
    seeds = {name: made.files(READERS[name].seeds) for name in names}
    for name in names:  # imports happen here, once for all children
        _warm_up(READERS[name], seeds[name], home)
    shares = sum(READERS[name].share for name in names)
    wanted = {name: max(1, round(inputs * READERS[name].share / shares)) for name in names}
    rounds = max(1, inputs // ROUND)
    while any(found[name].outcomes.total() < wanted[name] for name in names):
        if time.monotonic() - begin > 60 * minutes:
            break
        for name in names:
            reader, counts = READERS[name], found[name]
            done = counts.outcomes.total()
            part = range(done, min(done + -(-wanted[name] // rounds), wanted[name]))
            for index, outcome, kind, seconds, peak in in_children(
                reader, seeds[name], seed, part, home
            ):
                counts.outcomes[outcome] += 1
                counts.seconds += seconds
                counts.slowest = max(counts.slowest, seconds)
                counts.peak = max(counts.peak, peak)
                if outcome == "FAULT":
                    counts.faults.setdefault(kind, []).append(index)
                    content = make_input(reader, seeds[name], seed, index)
                    _keep(crashes, reader, kind, content, index)
        if state is not None:
            state.write_text(json.dumps({name: vars(each) for name, each in found.items()}))
    for name in names:
        _read_again(READERS[name], seeds[name], seed, home, found[name])
    return found


def _read_again(
    reader: Reader, seeds: Sequence[bytes], seed: int, home: Path, counts: Counts
) -> None:
    """What the code of now makes of inputs that were faults: the run may have begun with other."""
    for kind, indices in counts.faults.items():
        outcomes = Counter(
            found[1]
            for index in indices[:MOST_AGAIN]
            for found in in_children(reader, seeds, seed, range(index, index + 1), home)
        )
        counts.now[kind] = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())


def _read_state(state: Path | None, names: Sequence[str]) -> dict[str, Counts]:
    known = json.loads(state.read_text()) if state is not None and state.exists() else {}
    found = {name: Counts(**known.get(name, {})) for name in names}
    for counts in found.values():
        counts.outcomes = Counter(counts.outcomes)
    return found


def _warm_up(reader: Reader, seeds: Sequence[bytes], home: Path) -> None:
    if reader.seeds in ("words", "paths"):
        import ray  # noqa: F401

        return
    for index, content in enumerate(seeds):
        path = home / f"seed-{index}{SUFFIXES[reader.seeds]}"
        path.write_bytes(content)
        with suppress(Exception):
            reader.read(path)


def _keep(crashes: Path | None, reader: Reader, kind: str, content: bytes, index: int) -> None:
    """Keep the smallest input of every kind of fault, and say the first."""
    if crashes is None:
        return
    stem = "".join(sign if sign.isalnum() else "-" for sign in f"{reader.name} {kind}")[:120]
    path = crashes / f"{stem}{SUFFIXES[reader.seeds]}"
    if not path.exists():
        print(f"FAULT {reader.name} {index}: {kind}", file=sys.stderr, flush=True)
        crashes.mkdir(parents=True, exist_ok=True)
    elif path.stat().st_size <= len(content):
        return
    path.write_bytes(content)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", nargs="+", default=list(READERS), choices=list(READERS))
    parser.add_argument("--only", type=int, help="read this input of one reader and say all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing later")
    parser.add_argument("--state", type=Path, help="go on from the counts here, and keep them")
    parser.add_argument("--crashes", type=Path, default=Path("fuzz-crashes"))
    parser.add_argument("--log", type=Path, help="write a page about it here")
    args = parser.parse_args()
    crashes, log, state = (path and path.resolve() for path in (args.crashes, args.log, args.state))
    with tempfile.TemporaryDirectory(prefix="ensgan-fuzz-") as name:
        home = Path(name)
        if args.only is not None:
            return show(READERS[args.reader[0]], args.seed, args.only, home)
        found = fuzz(args.inputs, args.seed, args.reader, home, crashes, state, args.minutes)
    print(table(found))
    if log:
        command = " ".join(["scripts/fuzz", *sys.argv[1:]])
        log.write_text(page(found, command))
    return (
        1 if any("FAULT" in now for counts in found.values() for now in counts.now.values()) else 0
    )


def show(reader: Reader, seed: int, index: int, home: Path) -> int:
    """Read one input in this process, with its traceback."""
    content = make_input(reader, Seeds(home).files(reader.seeds), seed, index)
    path = home / f"input{SUFFIXES[reader.seeds]}"
    path.write_bytes(content)
    print(content[:2000])
    if reader.seeds in ("words", "paths"):
        os.chdir(home / "place")
    result: Any = reader.read(path)
    print(f"accepted: {str(result)[:500]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
