"""Counts what a fuzzed service answered; schemathesis loads it (see fuzz_serve.py)."""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

answers: Counter[str] = Counter()


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    answers[f"{case.path} {response.status_code}"] += 1


@atexit.register
def write_down() -> None:
    Path(os.environ["ENSGAN_FUZZ_COUNTS"]).write_text(json.dumps(answers))
