"""Calling the commands in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.errors import EnsganError


def call(*arguments: object) -> str:
    """Run a command and return what it printed; its errors are raised."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(
        app, [str(argument) for argument in arguments]
    )
    if isinstance(result.exception, EnsganError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*arguments: object) -> Any:
    """Run a command with ``--json`` and return its object."""
    return json.loads(call(*arguments, "--json"))
