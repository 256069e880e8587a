"""An artifact changed by somebody else, and its refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ensgan.ensemble import (
    load_ensemble,
)
from ensgan.errors import IntegrityError
from ensgan.files import sha256_file

Change = Callable[[dict[str, Any]], object]


SNGAN = "members/SNGAN@20.safetensors"


def rewrite(folder: Path, change: Change, *, rehash: bool = True) -> None:
    """Change the manifest; an attacker would also make the hashes fit."""
    path = folder / "ensemble.json"
    value = json.loads(path.read_text())
    change(value)
    if rehash:
        for name in value["files"]:
            if (folder / name).is_file():
                value["files"][name] = {
                    "bytes": (folder / name).stat().st_size,
                    "sha256": sha256_file(folder / name),
                }
    path.write_text(json.dumps(value))


def refused(folder: Path, match: str) -> None:
    with pytest.raises(IntegrityError, match=match) as caught:
        load_ensemble(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
