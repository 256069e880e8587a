"""Shows a sweep's manifest to the tracking store.

The manifest on disk is the truth and the store a view of it. Recording walks the manifest and does
what is not yet done; ``recorded.json`` says what is. So it can be stopped anywhere, fail for as
long as the tracking server is away, and be repeated (``ensgan sync``) without writing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ensgan.ensemble import TAG_DIGEST, ensemble_digest
from ensgan.files import content_key, read_json, write_bytes, write_json
from ensgan.pipeline.folder import SweepFolder
from ensgan.pipeline.members import MemberResult
from ensgan.store import ENSEMBLE_FOLDER, TAG_DATASET, TAG_GAN, TAG_SELECTED, RunStore
from ensgan.types import Front, Samples, UInt8Array

GRID_COLUMNS = 16


class Illustrator(Protocol):
    """Makes the pictures of a run; file names to contents."""

    def grid(self, title: str, rows: Sequence[tuple[str, UInt8Array]]) -> Mapping[str, bytes]:
        """Images in labelled rows: a row is a label and uint8 [n,H,W] or [n,H,W,C]."""
        ...

    def front(self, front: Front) -> Mapping[str, bytes]:
        """The Pareto front, interactive and static."""
        ...


class Recording:
    """One pass over the manifest at a time; see the module's text."""

    def __init__(self, folder: SweepFolder, store: RunStore, illustrator: Illustrator) -> None:
        self.folder = folder
        self.store = store
        self.illustrator = illustrator
        self.state_path = folder.path / "recorded.json"
        self.state: dict[str, Any] = {}

    def bring_up_to_date(self) -> str | None:
        """Record everything the manifest holds and the store does not.

        Returns:
            The parent's run ID; None when the sweep has not begun.

        Raises:
            StoreError: the store cannot be reached; what is recorded stays recorded.
        """
        manifest = self.folder.read()
        if "spec" not in manifest:
            return None
        self._open_state(manifest)
        parent = self._parent(manifest)
        for name, record in self._items(manifest):
            if not self._is_done(name):
                record(parent)
                self._mark(name)
        return parent

    def _open_state(self, manifest: Mapping[str, Any]) -> None:
        key = content_key(manifest["spec"], self.store.uri)
        state = read_json(self.state_path) if self.state_path.exists() else {}
        if state.get("key") != key:
            state = {"key": key, "runs": {}, "done": []}
        self.state = state

    def _is_done(self, name: str) -> bool:
        return name in self.state["done"]

    def _mark(self, name: str) -> None:
        self.state["done"].append(name)
        write_json(self.state_path, self.state)

    def _run(self, name: str, **arguments: Any) -> str:
        """The run of this name, made when it does not exist."""
        runs = self.state["runs"]
        if name not in runs:
            runs[name] = self.store.create_run(name, **arguments)
            write_json(self.state_path, self.state)
        return str(runs[name])

    def _items(self, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[str], None]]]:
        """What the manifest has to show, in order; names change with the content."""
        complete = manifest["spec"]["train"]["snapshots"]
        for gan, results in _by_gan(manifest).items():
            if len(results) >= complete or manifest["status"] != "running":
                key = content_key(*(result.sha256 for result in results))
                yield f"gan:{gan}:{key}", partial(self._gan, gan=gan, results=results)
        if "front" in manifest:
            yield f"search:{manifest['front']}", partial(self._search, manifest=manifest)
        if "downstream" in manifest:
            table = read_json(Path(manifest["downstream"]))
            for row in table["strategies"]:
                name = f"strategy:{row['strategy']}:{content_key(row)}"
                yield name, partial(self._strategy, row=row)
        if "ensemble" in manifest:
            yield (
                f"ensemble:{manifest['ensemble']}",
                partial(self._ensemble, manifest=manifest),
            )
        if manifest["status"] != "running":
            yield f"end:{manifest['finished']}", partial(self._end, manifest=manifest)

    def _parent(self, manifest: Mapping[str, Any]) -> str:
        spec, dataset = manifest["spec"], manifest["dataset"]
        run_id = self._run(
            spec["name"],
            kind="sweep",
            params={
                **_leaves(spec),
                "dataset": dataset["name"],
                "dataset.key": dataset["key"],
                "members": manifest["planned"],
            },
            tags={
                TAG_DATASET: dataset["name"],
                **{f"ensgan.version.{k}": str(v) for k, v in manifest["versions"].items()},
            },
        )
        if not self._is_done("dataset"):
            self.store.log_dataset(
                run_id,
                name=dataset["name"],
                digest=dataset["key"][:16],
                source=dataset["source"],
                profile=dataset["images"],
            )
            self._mark("dataset")
        return run_id

    def _gan(self, parent: str, gan: str, results: Sequence[MemberResult]) -> None:
        run_id = self._run(
            gan,
            kind="gan",
            parent=parent,
            params={"gan": gan, "snapshots": len(results)},
            tags={TAG_GAN: gan, "ensgan.health": "; ".join(_health(results)) or "ok"},
        )
        self.store.log_history(
            run_id,
            [
                (
                    _step(result.name),
                    {
                        **result.metrics,
                        "intra_d": result.intra_d,
                        "density": result.density,
                        "coverage": result.coverage,
                    },
                )
                for result in results
            ],
        )
        rows = [
            (result.name.rpartition("@")[2], Samples.load(result.samples).images[:GRID_COLUMNS])
            for result in results
        ]
        self._files(run_id, self.illustrator.grid(gan, rows), f"grid-{gan}")
        self.store.finish(run_id, "finished")

    def _search(self, parent: str, manifest: Mapping[str, Any]) -> None:
        path = Path(manifest["front"])
        front = Front.load(path)
        run_id = self._run(
            "search",
            kind="search",
            parent=parent,
            params={"sampler": front.sampler, "seed": front.seed, "trials": front.trials},
        )
        self.store.log_metrics(
            run_id,
            {
                "hypervolume": front.hypervolume,
                "distinct": float(front.distinct),
                "points": float(len(front)),
                "seconds": front.seconds,
            },
        )
        for file in (path, Path(manifest["trials"])):
            self.store.log_file(run_id, file)
        self._files(run_id, self.illustrator.front(front), "front")
        self.store.finish(run_id, "finished")

    def _strategy(self, parent: str, row: Mapping[str, Any]) -> None:
        run_id = self._run(
            row["strategy"],
            kind="strategy",
            parent=parent,
            params={"strategy": row["strategy"], "members": len(row["members"])},
            tags={"ensgan.strategy": row["strategy"]},
        )
        self.store.log_metrics(run_id, _strategy_metrics(row))
        self.store.finish(run_id, "finished")

    def _ensemble(self, parent: str, manifest: Mapping[str, Any]) -> None:
        self.store.log_folder(parent, Path(manifest["ensemble"]), ENSEMBLE_FOLDER)
        self.store.log_file(parent, Path(manifest["downstream"]), "downstream")
        selected = manifest["selected"]
        names = ("intra_d", "inter_d", "density", "coverage")
        self.store.log_metrics(parent, {name: selected[name] for name in names})
        self.store.set_tags(
            parent,
            {
                TAG_SELECTED: ",".join(selected["members"]),
                "ensgan.rule": selected["rule"],
                TAG_DIGEST: ensemble_digest(Path(manifest["ensemble"])),
            },
        )

    def _end(self, parent: str, manifest: Mapping[str, Any]) -> None:
        for stage, seconds in manifest["stages"].items():
            self.store.log_metrics(parent, {f"seconds.{stage.replace(' ', '_')}": seconds})
        self.store.log_file(parent, self.folder.manifest_path)
        self.store.finish(parent, "failed" if manifest["status"] == "failed" else "finished")

    def _files(self, run_id: str, contents: Mapping[str, bytes], folder: str) -> None:
        for name, content in contents.items():
            path = self.folder.file("pictures", f"{folder}/{name}")
            write_bytes(path, content)
            self.store.log_file(run_id, path)


def _by_gan(manifest: Mapping[str, Any]) -> dict[str, list[MemberResult]]:
    """Members by GAN, in step order."""
    groups: dict[str, list[MemberResult]] = {}
    for value in manifest.get("members", {}).values():
        result = MemberResult.from_json(value)
        groups.setdefault(result.name.partition("@")[0], []).append(result)
    for results in groups.values():
        results.sort(key=lambda result: _step(result.name))
    return groups


def _step(name: str) -> int:
    return int(name.rpartition("@")[2])


def _health(results: Sequence[MemberResult]) -> list[str]:
    return [f"{result.name}: {', '.join(result.health)}" for result in results if result.health]


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted leaves of the spec, for MLflow's flat parameters."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _strategy_metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """Means and standard deviations of a table row."""
    values: dict[str, float] = {}
    for name, metric in row["metrics"].items():
        values[name] = metric["mean"]
        if metric["sd"] is not None:
            values[f"{name}_sd"] = metric["sd"]
    return values
