"""Reading the oracle files, and comparing with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def cases(oracles: Path, section: str, name: str) -> list[dict[str, Any]]:
    """The cases of one oracle of ``loss_oracles.json``."""
    oracles = json.loads((oracles / "loss_oracles.json").read_text())
    found: list[dict[str, Any]] = oracles[section][name]
    assert found
    return found


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | float, expected: object, tolerance: float = 1e-9) -> None:
    found = actual.detach() if isinstance(actual, Tensor) else double(actual)
    wanted = torch.as_tensor(expected, dtype=found.dtype)
    torch.testing.assert_close(found, wanted.detach(), rtol=tolerance, atol=tolerance)


def set_parameter(parameter: Tensor, values: object) -> None:
    with torch.no_grad():
        parameter.copy_(double(values))
