"""Records an evaluation of a finished sweep: one run per strategy below the sweep's run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ensgan.errors import InputError
from ensgan.evaluation.evaluate import Evaluation
from ensgan.files import content_key
from ensgan.recording import views
from ensgan.recording.state import RunBook
from ensgan.store import RunStore
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
    book = RunBook(sweep.folder.file("evaluate", "recorded.json"))
    book.read()
    run_ids = {}
    settings = evaluation.settings()
    shared, tags = _shared(evaluation)
    for row in evaluation.table:
        name, value = row.strategy, asdict(row)
        if row.test_images is None:  # as versions without them named their runs
            value = {k: v for k, v in value.items() if k not in ("test_images", "test_difference")}
        key = content_key(store.uri, sweep.run_id, settings, value)
        if key not in book.runs:
            params = {"strategy": name, "members": len(row.members), "draws": row.draws}
            book.runs[key] = store.create_run(
                name,
                kind="strategy",
                parent=sweep.run_id,
                params={**shared, **params},
                tags={**tags, "ensgan.strategy": name, "ensgan.rule": sweep.selected.rule},
            )
            book.save()
        run_ids[name] = book.runs[key]
        if not book.is_done(key):
            # The validation score, and the part of the gap that is closed.
            gaps = {f"{k}_gap_closed": v for k, v in value["gap_closed"].items() if v is not None}
            scores = {"val_score": value["val_score"]["mean"], **views.strategy_metrics(value)}
            store.log_metrics(book.runs[key], {**scores, **gaps})
            store.finish(book.runs[key])
            book.mark(key)
    table = content_key(store.uri, sweep.run_id, evaluation.path.name)
    if not book.is_done(table):
        store.log_file(sweep.run_id, evaluation.path, "downstream")
        book.mark(table)
    return run_ids


def _shared(evaluation: Evaluation) -> tuple[dict[str, Any], dict[str, str]]:
    """Parameters and tags of every strategy's run: settings, data, seed, the code that ran now."""
    before = evaluation.sweep.folder.read()
    manifest = before.model_copy(update={"versions": environment()})
    settings = {k: v for k, v in evaluation.settings().items() if k != "strategies"}
    params = {**views.leaves(settings), **views.common(manifest)}
    if evaluation.options.seed is not None:
        params["seed"] = evaluation.options.seed
    return params, views.common_tags(manifest)
