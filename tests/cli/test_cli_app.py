"""The table of commands, and what a user sees when something nobody foresaw goes wrong."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ensgan.cli import output
from ensgan.cli.app import COMMANDS, PANELS, load_command, main

VARIABLE = re.compile(r"['\"](ENSGAN_[A-Z_]+)['\"]")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_its_summary_begins_its_help(name: str) -> None:
    command, (_, summary) = load_command(name), COMMANDS[name]
    text = " ".join((command.help or "").split())
    words = summary.removesuffix(".")
    assert text.startswith(words), f"{name}: {text[:100]!r} does not begin with {words!r}"
    assert "Example:" in text or name == "data", f"{name} --help shows no example"


def ensgan(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ensgan", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; sys.argv = ['ensgan', '--help']\n"
        "from ensgan.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print('IMPORTED', *[m for m in sys.modules if m.startswith('ensgan.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("IMPORTED")[1].split() == ["ensgan.cli.app"]
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", done.stdout), name


@pytest.mark.parametrize("options", [[], ["-q"]], ids=["", "quiet"])
def test_a_slow_import_is_said_on_a_terminal(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(1.3)\nraise MemoryError\n")
    leader, follower = os.openpty()
    code = "from ensgan.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *options, "search", "no.npz"],
        stderr=follower,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    os.close(follower)
    said = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert done.returncode == 1 and "not enough memory" in said
    assert ("loading torch …" in said) == (not options)


def test_help_groups_the_commands_and_names_the_variables() -> None:
    text = " ".join(ensgan("--help", COLUMNS="100").stdout.split())
    places = [text.index(panel) for panel in PANELS]
    assert places == sorted(places)
    known = {
        name for path in Path("ensgan").rglob("*.py") for name in VARIABLE.findall(path.read_text())
    }
    assert known >= {"ENSGAN_STORAGE", "ENSGAN_DATA"}
    unnamed = {name for name in known if name not in text}
    # One is in the help of the commands that take it, the other for rehearsals (docs/cluster.md).
    assert unnamed <= {"ENSGAN_ACCEPT_CHECKSUM", "ENSGAN_REHEARSAL"}


def test_help_breaks_lines_where_paragraphs_end() -> None:
    """Lines of the source are longer than a narrow terminal's: every second one would be short."""
    text = ensgan("score", "--help", COLUMNS="60").stdout
    lines = [line.strip() for line in text[text.index("FEATURES") :].splitlines()]
    lines = lines[: lines.index("") - 1]
    assert len(lines) > 2 and all(len(line) > 40 for line in lines), lines


def test_a_misspelt_command_is_a_wrong_usage_with_a_suggestion() -> None:
    done = ensgan("seep")
    assert done.returncode == 2
    assert "sweep" in done.stderr


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def fail() -> None:
        raise RuntimeError("the moon\nis full")

    broken = typer.Typer(pretty_exceptions_enable=False)
    broken.command("runs")(fail)
    monkeypatch.setattr(sys.modules["ensgan.cli.app"], "app", broken)
    monkeypatch.setattr(sys, "argv", ["ensgan", "runs"])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("ENSGAN_DEBUG", raising=False)
    return tmp_path


def call_main(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["ensgan"])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_an_unforeseen_failure_is_one_sentence_and_a_file(
    failing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call_main(monkeypatch) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "RuntimeError: is full" in said
    (path,) = failing.rglob("traceback-*.txt")
    assert str(path) in said
    assert "in fail" in path.read_text()


def test_memory_that_is_not_there_is_foreseen(
    failing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)  # put back afterwards
    monkeypatch.setattr(sys.modules["ensgan.cli.app"], "app", lambda: bytes(1 << 62))
    assert call_main(monkeypatch) == 1
    assert capsys.readouterr().err.startswith("error: not enough memory")
    assert not list(failing.rglob("traceback-*.txt"))


def test_a_folder_that_may_not_be_entered_is_wrong_usage(
    failing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def enter() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "locked/manifest.json")

    monkeypatch.setattr(sys.modules["ensgan.cli.app"], "app", enter)
    assert call_main(monkeypatch) == 2
    said = "error: locked/manifest.json: Permission denied; name another path\n"
    assert capsys.readouterr().err == said and not list(failing.rglob("traceback-*.txt"))


def test_debug_shows_it(failing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENSGAN_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["ensgan"])
    with pytest.raises(RuntimeError, match="the moon"):
        main()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_to_a_full_disk_is_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ensgan", "--version"], stdout=full, stderr=-1, text=True
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: the output cannot be written: No space left on device; make room\n"
    )


@pytest.mark.parametrize(
    ("words", "code"), [("verify nothing 2>&-", 2), ("runs --storage nowhere <&- >&- 2>&-", 2),
                        ("runs --storage . <&- >&-", 0)]
)  # fmt: skip
def test_closed_streams_change_no_exit_code(words: str, code: int, tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m ensgan {words}"
    assert subprocess.run(command, shell=True, capture_output=True, cwd=tmp_path).returncode == code


def test_a_name_that_no_file_can_have_is_wrong_usage() -> None:
    done = ensgan("status", "x" * 300)
    assert done.returncode == 2 and "name too long; name another path" in done.stderr.lower()


def test_what_a_terminal_cannot_show_becomes_a_question_mark() -> None:
    done = ensgan("zoo", "--help", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("flags", "bars"), [(["-q"], 0), ([], 1), (["--log", "quiet", "-v"], 1)])
def test_quiet_and_verbose(
    flags: list[str], bars: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENSGAN_LOG", "normal")
    monkeypatch.setattr(output, "_messages", output.PlainConsole(stderr=True))
    monkeypatch.setattr(output.PlainConsole, "is_terminal", True)
    monkeypatch.setattr(sys, "argv", ["ensgan", *flags, "runs", "--storage", "nowhere"])
    with pytest.raises(SystemExit):
        main()
    output.note("a remark")
    output.warn("a warning")
    shown = capsys.readouterr().err
    assert shown.count("a remark") == bars and "a warning" in shown


def test_an_unknown_level_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENSGAN_LOG", "quit")
    monkeypatch.setattr(sys, "argv", ["ensgan", "runs"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "did you mean 'quiet'" in capsys.readouterr().err


def test_a_shell_completes_the_names_of_sweeps(tmp_path: Path) -> None:
    for name in ("lungs", "livers"):
        folder = tmp_path / "sweeps" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    asked = {"_ENSGAN_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['ensgan']; from ensgan.cli import main; main()"
    for command in ("show", "status", "sample"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **asked, "COMP_WORDS": f"ensgan {command} l"}
            | {"ENSGAN_STORAGE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout.split() == ["latest", "livers", "lungs"], done.stderr


@pytest.mark.parametrize("command", ["zoo", "runs", "sample x -n 1 -o y.npz"])
def test_a_current_folder_that_was_deleted_is_said(command: str, tmp_path: Path) -> None:
    script = f'mkdir gone && cd gone && rmdir ../gone && "{sys.executable}" -m ensgan {command}'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    sentence = "error: the current folder has been deleted: change into one that exists"
    assert done.stderr.splitlines()[-1] == sentence


def test_ctrl_c_while_the_command_loads_shows_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")  # what the command line needs
    path = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "ensgan", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **path})
    assert (done.returncode, done.stdout + done.stderr) == (130, "")
