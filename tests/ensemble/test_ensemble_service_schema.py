"""The service against its own OpenAPI: schemathesis makes valid and broken requests of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from ensgan.ensemble import load_ensemble
from ensgan.ensemble.service import make_app

TOKEN = "a-secret-of-the-tests"


@pytest.fixture(scope="module")
def operations(intact: Path) -> list[Any]:
    app = make_app(load_ensemble(intact), token=TOKEN, largest=4)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_described(operations: list[Any], mode: GenerationMode) -> None:
    assert sorted(operation.path for operation in operations) == ["/ensemble", "/health", "/sample"]
    seen = set()
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and operation.path != "/sample":
            continue  # a GET without parameters has nothing to break

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        def ask(case: Any) -> None:
            answer = case.call_and_validate(
                headers={"Authorization": f"Bearer {TOKEN}", "Host": "localhost"},
                # That there are n labels is a rule that OpenAPI cannot say.
                excluded_checks=[positive_data_acceptance],
            )
            seen.add(answer.status_code)

        ask()
    assert seen <= {200, 422} if mode is GenerationMode.POSITIVE else 422 in seen
