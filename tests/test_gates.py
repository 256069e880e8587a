"""Files, foreign formats and printed text pass through one gate each; who goes round it says why.

A new call that opens, parses, removes or prints outside the gates fails here: use the gate, or add
the place with its reason.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ensgan"

OWN = "written by this version a moment ago"
CHECKED = "what it leads to and its size are checked before"
GATES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "read": (
        ("open", "read_text", "read_bytes", "fromfile", "memmap"),
        {
            "files.py": "the gate",
            "outputs.py": "the lock file of one_at_a_time",
            "data/picture.py": "the gate of pictures: Pillow, told which formats",
            "data/dicom.py": "the gate of DICOM, called by the gate of pictures",
            "data/image_files.py": "both ends of a file whose decoding is bounded",
            "embedding/spec.py": "writes a download into a scratch folder",
            "ensemble/weights.py": "the length of a header, which is bounded",
            "ensemble/ensemble.py": f"a member's file: {CHECKED}",
            "ensemble/service.py": OWN,
            "search/optuna/study.py": "a bounded first line",
            "cli/app.py": "/dev/null",
            "report/record.py": "files of the sweep, read by their own types before",
            "store/record.py": f"artifacts of a local store: {CHECKED}",
            "store/remote.py": "what MLflow's client downloaded (SECURITY.md)",
            "cluster/preflight.py": "the token a node wrote",
            "cluster/tune_callback.py": "Ray Tune's traceback of a trial",
            "sweep/environment.py": "/proc",
            "precision.py": "/proc",
            "metrics/features.py": "members of an archive whose expansion is bounded",
            "sweep/folder.py": "the lock of a sweep's folder",
            "data/archive.py": "its own partial download, for appending",
            "ensemble/export.py": "labels.csv in the new folder, for writing",
            "search/ledger.py": "inside atomic_path, for writing",
            "store/mlflow.py": "a scratch file of its own, for syncing",
            "cluster/trial_queue.py": "Ray Tune's searcher state, for writing",
            "cli/steer.py": "a trial's own log, printed through printable",
            "launch/finished.py": "our own modules, to hash them",
            "sweep/live/requests.py": "the lock of a folder of requests",
            "sweep/live/trial_report.py": "a trial's own log, for appending",
        },
    ),
    "write": (
        ("write_text", "write_bytes", "savez", "savez_compressed", "np.save", "json.dump"),
        {
            "files.py": "the gate: write_bytes, write_npz",
            "cli/app.py": "the traceback file, in a new folder",
            "metrics/features.py": "inside atomic_path",
            "embedding/extractor.py": "inside atomic_path",
            "report/views.py": "in a temporary folder",
            "store/opening.py": "in a temporary folder",
            "report/content.py": "in a temporary folder",
            "cluster/preflight.py": "tokens, in the folder of the preflight",
        },
    ),
    "remove": (
        ("unlink", "rmtree", "os.remove", "rmdir", "removedirs", "shutil.move"),
        {
            "files.py": "the temporary file of atomic_path",
            "caches.py": "the gate of caches: marked files only",
            "cli/score.py": "its own blocks, by name; the folder when nothing else is in it",
            "cluster/executor.py": "the file that asks trials to stop",
            "cluster/preflight.py": "the folder of the preflight",
            "cluster/trial_queue.py": "the file that asks trials to stop",
            "sweep/executor.py": "the file that asks trials to stop",
            "sweep/live/order.py": "the file that asks a trial to stop",
            "sweep/live/requests.py": "its own folder of requests and the mark that it is open",
            "data/archive.py": "its own partial download",
            "sweep/folder.py": "an earlier sweep is moved aside, nothing is deleted",
            "train/claim.py": "the state of a training that went its way again",
        },
    ),
    "JSON and YAML": (
        ("json.loads", "json.load", "yaml.load", "yaml.safe_load", "yaml.full_load"),
        {"files.py": "the gate: parse_json"},
    ),
    "arrays": (
        ("np.load", "np.loadtxt", "np.genfromtxt", "torch.load", "torch.jit.load",
         "torch.export.load", "safe_open", "safetensors.torch.load_file"),
        {
            "files.py": "the gate: read_npz, map_array",
            "metrics/features.py": "unpacked to disk, within the gate's bound",
            "train/claim.py": "our own resume state, weights_only",
            "train/loop.py": "our own resume state, weights_only",
            "embedding/spec.py": "weights_only, inside explained",
            "embedding/extractor.py": "safetensors, inside explained",
            "ensemble/weights.py": "safetensors whose header was checked",
            "ensemble/external.py": "a generator of the user's own, whose code is run by request",
        },
    ),
    "archives and XML": (
        ("zipfile.ZipFile", "ZipFile", "tarfile.open", "ElementTree.fromstring", "csv.reader",
         "ElementTree.parse", "extractall", "gzip.open", "zlib.decompress"),
        {
            "caches.py": "the list of names of one of our files",
            "metrics/features.py": "the list of sizes",
            "cli/score.py": "the list of names",
            "data/table.py": "the gate of tables: expansion bounded",
            "report/figures.py": f"a picture of matplotlib's, {OWN}",
        },
    ),
    "pictures": (
        ("Image.open", "dcmread", "plt.imread", "imread"),
        {
            "data/picture.py": "the gate",
            "data/dicom.py": "the gate",
        },
    ),
    "print": (
        ("print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write",
         "logging.warning"),
        {
            "cli/output.py": "the gate: PlainConsole, and one line of JSON",
            "cli/app.py": "the version; the last sentence, through printable",
            "cli/evaluate.py": "progress: names that the sweep's file was checked for",
            "cli/pages.py": "the address of our own server: words and numbers of ours",
            "cli/study.py": "progress: words and numbers of ours",
            "cli/sample.py": "the address it serves, a host that could be bound",
            "cli/sweep.py": "PlainConsole",
            "cli/steer.py": "lines of a log, through printable",
        },
    ),
    "spreadsheets": (
        ("csv.writer", "csv.DictWriter"),
        {
            "ensemble/export.py": "cells through spreadsheet_cell",
            "report/views.py": "cells through spreadsheet_cell",
            "search/ledger.py": "cells through spreadsheet_cell",
        },
    ),
    "network": (
        ("urlopen", "urlretrieve", "build_opener", "requests.get", "requests.post", "httpx.get"),
        {
            "cli/doctor.py": "the tracking server's /health",
            "launch/finished.py": "the address that the user wants told, no other host",
            "data/archive.py": "data sets, compared with their checksums",
            "embedding/spec.py": "published weights, compared with their checksums",
        },
    ),
    "databases": (
        ("sqlite3.connect",),
        {
            "inputs.py": "the gate: what tables there are",
            "store/sqlite.py": "MLflow's own database",
        },
    ),
    "code": (
        ("eval", "exec", "pickle.load", "pickle.loads", "os.system", "subprocess.run",
         "subprocess.Popen", "importlib.import_module", "exec_module", "marshal.loads"),
        {
            "cli/app.py": "commands by name, from a table of our own",
            "cluster/session.py": "ray's own program",
            "data/folder.py": "a pattern, searched where it can be ended",
            "store/tracking.py": "MLflow's own server",
            "inputs.py": "the gate: plugins and generators of the user's own, run by request",
            "sweep/environment.py": "git, for the commit",
            "__init__.py": "our own modules, on demand",
            "downstream/__init__.py": "our own modules, on demand",
            "search/__init__.py": "our own modules, on demand",
            "search/sampler.py": "our own modules, on demand",
            "cli/doctor.py": "installed packages, from a table of our own",
            "embedding/table.py": "installed packages, from a table of our own",
            "ensemble/external.py": "a generator of the user's own, run by request",
        },
    ),
}  # fmt: skip


@cache
def calls(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call))


def matches(call: str, pattern: str) -> bool:
    """A dotted pattern is the whole call; a plain one is the last part of any."""
    return call == pattern or ("." not in pattern and call.endswith(f".{pattern}"))


# Methods of those names that touch no file.
OTHERS = {
    "self.state.open", "STORES.get(scheme).open", "archive.zip.open",
    "requests.post", "webbrowser.open", "urllib.request.build_opener(*handlers).open",
    "console.print", "live.console.print", "_messages.print", "PlainConsole().print",
}  # fmt: skip


@pytest.mark.parametrize("gate", GATES)
def test_nobody_goes_round_a_gate_without_a_reason(gate: str) -> None:
    patterns, places = GATES[gate]
    found = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).as_posix()
        for call in calls(path):
            # The gates' own functions are called by these names.
            own = gate in ("read", "write") and call in ("read_text", "read_bytes", "write_bytes")
            own |= gate == "code" and call.endswith(".eval")  # a method of torch's networks
            if any(matches(call, each) for each in patterns) and call not in OTHERS and not own:
                found[relative].add(call)
    strangers = {path: names for path, names in found.items() if path not in places}
    assert not strangers, f"{gate}: use the gate, or say why not: {strangers}"
    assert set(places) == set(found), "a place that no longer needs its reason"


def test_whoever_writes_cells_makes_them_harmless() -> None:
    for place in GATES["spreadsheets"][1]:
        assert "spreadsheet_cell(" in (PACKAGE / place).read_text(), place


def test_consoles_are_plain() -> None:
    """Rich's own console obeys markup and passes terminal codes on."""
    for path in PACKAGE.rglob("*.py"):
        assert not calls(path) & {"Console", "rich.console.Console", "rich.print"}, path
