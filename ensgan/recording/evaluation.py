"""Records an evaluation of a finished sweep: a strategy run each below the sweep's run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensgan.errors import InputError
from ensgan.evaluation.evaluate import Evaluation
from ensgan.files import content_key, read_json, write_json
from ensgan.recording import views
from ensgan.store import TAG_DATASET, RunStore
from ensgan.sweep.environment import environment


def record_evaluation(evaluation: Evaluation, store: RunStore) -> dict[str, str]:
    """Record what is not yet recorded; doing it again adds nothing.

    Returns:
        Run ID of every strategy.

    Raises:
        InputError: the sweep itself has no run in this store.
        StoreError: the store cannot be reached; what is recorded stays recorded.
    """
    sweep = evaluation.sweep
    if sweep.run_id is None:
        raise InputError(
            f"sweep '{sweep.spec.name}' has no recorded run that the strategies could belong to: "
            f"`ensgan sync {sweep.spec.name}` records it"
        )
    store.get(sweep.run_id)
    path = sweep.folder.file("evaluate", "recorded.json")
    state: dict[str, Any] = read_json(path) if path.exists() else {"runs": {}, "done": []}
    found = {}
    settings = evaluation.settings()
    shared, tags = _shared(evaluation)
    for row in evaluation.table:
        key = content_key(store.uri, sweep.run_id, settings, row.to_json())
        if key not in state["runs"]:
            state["runs"][key] = store.create_run(
                row.strategy,
                kind="strategy",
                parent=sweep.run_id,
                params={
                    **shared,
                    "strategy": row.strategy,
                    "members": len(row.members),
                    "draws": row.draws,
                },
                tags={
                    **tags,
                    "ensgan.strategy": row.strategy,
                    "ensgan.rule": sweep.selected.rule,
                },
            )
            write_json(path, state)
        found[row.strategy] = state["runs"][key]
        if key not in state["done"]:
            store.log_metrics(found[row.strategy], _metrics(row.to_json()))
            store.finish(found[row.strategy])
            state["done"].append(key)
            write_json(path, state)
    table = content_key(store.uri, sweep.run_id, evaluation.path.name)
    if table not in state["done"]:
        store.log_file(sweep.run_id, evaluation.path, "downstream")
        state["done"].append(table)
        write_json(path, state)
    return found


def _shared(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and tags of every strategy's run: settings, data, seed, the code that ran now."""
    manifest = {**evaluation.sweep.folder.read(), "versions": environment()}
    params = {**_settings(evaluation), **views.common(manifest)}
    if evaluation.options.seed is not None:
        params["seed"] = evaluation.options.seed
    tags = {TAG_DATASET: manifest["dataset"]["name"], **views.code_tags(manifest["versions"])}
    return params, tags


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    """Settings as flat parameters; the strategies are runs of their own."""
    settings = {k: v for k, v in evaluation.settings().items() if k != "strategies"}
    return views.leaves(settings)


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Means, standard deviations and the part of the gap that is closed."""
    values = {"val_score": row["val_score"]["mean"], **views.strategy_metrics(row)}
    for name, closed in row["gap_closed"].items():
        if closed is not None:
            values[f"{name}_gap_closed"] = closed
    return values
