"""Shows a sweep's manifest to the tracking store.

The manifest on disk is the truth and the store a view of it. Recording walks the manifest and does
what is not yet done; ``recorded.json`` says what is. So it can be stopped anywhere, fail for as
long as the tracking server is away, and be repeated (``ensgan sync``) without writing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ensgan.ensemble import TAG_DIGEST, ensemble_digest
from ensgan.files import content_key, read_json, write_bytes
from ensgan.recording import views
from ensgan.recording.state import RecordState
from ensgan.recording.views import Illustrator, log_report
from ensgan.store import (
    ENSEMBLE_FOLDER,
    TAG_DATASET,
    TAG_GAN,
    TAG_RECORD,
    TAG_SELECTED,
    RunStore,
)
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.records import MemberResult
from ensgan.types import Front, PoolScores, Samples, UInt8Array, gan_of, step_of

GRID_COLUMNS = 16


class Recording:
    """One pass over the manifest at a time; see the module's text."""

    def __init__(self, folder: SweepFolder, store: RunStore, illustrator: Illustrator) -> None:
        self.folder = folder
        self.store = store
        self.illustrator = illustrator
        self.state = RecordState(folder.record_path, store)

    def bring_up_to_date(self) -> str | None:
        """Record everything the manifest holds and the store does not.

        Returns:
            The parent's run ID; None when the sweep has not begun.

        Raises:
            StoreError: the store cannot be reached; what is recorded stays recorded.
        """
        if not self.folder.has_begun:
            return None
        manifest = self.folder.read()
        self.state.open(manifest.spec, manifest.settings.name)
        recorded = self._whole(manifest)
        if recorded is not None:
            return recorded
        parent = self._parent(manifest)
        self.state.save()  # also when nothing is left to record
        for name, record in self._items(manifest):
            if not self.state.is_done(name):
                record(parent)
                self.state.mark(name)
        return parent

    def recorded_run(self) -> str | None:
        """The parent's run ID if nothing is left to record, None otherwise; asks no store that
        has stayed where it was."""
        if not self.folder.has_begun:
            return None
        manifest = self.folder.read()
        self.state.open(manifest.spec, manifest.settings.name)
        return self._whole(manifest)

    def _whole(self, manifest: Manifest) -> str | None:
        """The parent's run ID if the end was recorded: it comes last."""
        last = f"report:{manifest.finished}"
        if manifest.status == "running" or not self.state.is_done(last):
            return None
        return self.state.runs.get(manifest.settings.name)

    def _run(self, name: str, *, parent: str | None = None, **arguments: Any) -> str:
        """The run of this name, made when it does not exist.

        A creation that was sent but never answered (an outage, a kill) is looked for first.
        """
        runs = self.state.runs
        if not runs.get(name):
            token = self.state.token(name)
            made = self._unanswered(token, parent, arguments) if name in runs else None
            if made is None:
                runs[name] = ""
                self.state.save()
                arguments["tags"] = {**arguments["tags"], TAG_RECORD: token}
                made = self.store.create_run(name, parent=parent, **arguments)
            runs[name] = made
            self.state.save()
        return runs[name]

    def _unanswered(
        self, token: str, parent: str | None, arguments: Mapping[str, Any]
    ) -> str | None:
        kind = arguments["kind"]
        known = self.store.find(kind=kind) if parent is None else self.store.children(parent)
        for record in known:
            if record.tags.get(TAG_RECORD) == token:
                self.store.log_params(record.run_id, arguments["params"])
                return record.run_id
        return None

    def _items(self, manifest: Manifest) -> Iterator[tuple[str, Callable[[str], None]]]:
        """What the manifest has to show, in order; names change with the content."""
        complete = manifest.settings.train.snapshots
        for gan, results in views.by_gan(manifest).items():
            whole = gan in manifest.external or len(results) >= complete
            if whole or manifest.status != "running":
                key = content_key(*(result.sha256 for result in results))
                yield f"gan:{gan}:{key}", partial(self._gan, manifest, gan=gan, results=results)
        if manifest.front is not None:
            yield f"search:{self._place(manifest.front)}", partial(self._search, manifest)
        if manifest.scores is not None and manifest.selected is not None:
            key = content_key(self._place(manifest.front), manifest.selected.tree())
            yield f"pool:{key}", partial(self._pool, manifest)
        if manifest.downstream is not None:
            for row in read_json(manifest.downstream)["strategies"]:
                name = f"strategy:{row['strategy']}:{content_key(row)}"
                yield name, partial(self._strategy, manifest, row=row)
        if manifest.ensemble is not None:
            yield f"ensemble:{self._place(manifest.ensemble)}", partial(self._ensemble, manifest)
        if manifest.status != "running":
            yield f"end:{manifest.finished}", partial(self._end, manifest)
            yield f"report:{manifest.finished}", partial(self._report, manifest)

    def _place(self, path: Path | None) -> str:
        """A result's place in the folder: what it is called wherever the folder lies."""
        return "" if path is None else path.relative_to(self.folder.path).as_posix()

    def _parent(self, manifest: Manifest) -> str:
        run_id = self._run(
            manifest.settings.name,
            kind="sweep",
            params={
                **views.leaves(manifest.spec),
                **views.common(manifest),
                **views.version_params(manifest.versions),
                "members": manifest.planned,
            },
            tags={
                TAG_DATASET: manifest.dataset.name,
                **views.code_tags(manifest.versions),
            },
        )
        if not self.state.is_done("dataset"):
            self._log_dataset(run_id, manifest)
            self.state.mark("dataset")
        return run_id

    def _log_dataset(self, run_id: str, manifest: Manifest) -> None:
        dataset = manifest.dataset
        self.store.log_dataset(
            run_id,
            name=dataset.name,
            digest=dataset.key[:16],
            source=dataset.source,
            profile=dataset.images,
        )

    def _below(
        self,
        manifest: Manifest,
        parent: str,
        name: str,
        kind: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """A run below the sweep's, with what every run of the sweep carries."""
        return self._run(
            name,
            parent=parent,
            kind=kind,
            params={**views.common(manifest), **params},
            tags={
                TAG_DATASET: manifest.dataset.name,
                **views.code_tags(manifest.versions),
                **tags,
            },
        )

    def _gan(
        self,
        manifest: Manifest,
        parent: str,
        gan: str,
        results: Sequence[MemberResult],
    ) -> None:
        hashes = {f"sha256.{step_of(result.name)}": result.sha256 for result in results}
        run_id = self._below(
            manifest,
            parent,
            gan,
            "gan",
            {"gan": gan, "snapshots": len(results), **hashes},
            {TAG_GAN: gan, "ensgan.health": "; ".join(views.health(results)) or "ok"},
        )
        self.store.log_history(
            run_id,
            [(step_of(result.name), views.member_metrics(result)) for result in results],
        )
        self._log_dataset(run_id, manifest)
        rows = [self._row(result.name.rpartition("@")[2], result.samples) for result in results]
        self._grid(manifest, run_id, gan, rows, f"grid-{gan}")
        self.store.finish(run_id, "finished")

    def _row(self, label: str, samples: Path) -> tuple[str, UInt8Array]:
        return label, Samples.load(samples).images[:GRID_COLUMNS]

    def _grid(
        self,
        manifest: Manifest,
        run_id: str,
        title: str,
        rows: Sequence[tuple[str, UInt8Array]],
        folder: str,
    ) -> None:
        """Generated images; with real ones on top as a second file, where the sweep asks for it."""
        self._files(run_id, self.illustrator.grid(title, rows), folder)
        if manifest.settings.track.show_real:
            real = self._row("real", self.folder.real_images(manifest.dataset.key))
            self._files(run_id, self.illustrator.grid(f"{title}-with-real", [real, *rows]), folder)

    def _search(self, manifest: Manifest, parent: str) -> None:
        assert manifest.front is not None
        assert manifest.trials is not None
        front = Front.load(manifest.front)
        run_id = self._below(
            manifest,
            parent,
            "search",
            "search",
            {"sampler": front.sampler, "search.seed": front.seed, "trials": front.trials},
            {},
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
        self.store.log_file(run_id, manifest.trials, "search")
        self.store.finish(run_id, "finished")

    def _pool(self, manifest: Manifest, parent: str) -> None:
        """The pictures that people look for first, on the sweep's own run."""
        assert manifest.front is not None
        assert manifest.scores is not None
        front = Front.load(manifest.front)
        scores = PoolScores.load(manifest.scores)
        point = views.chosen_point(front, manifest)
        self._files(parent, {"front.json": manifest.front.read_bytes()}, "front")
        self._files(parent, self.illustrator.front(front, point), "front")
        self._files(parent, self.illustrator.pool(scores, front, point), "pool")
        self._files(parent, {"members.csv": views.members_csv(manifest)}, "pool")
        self._files(parent, {"scores.npz": manifest.scores.read_bytes()}, "pool")
        rows = [self._row(name, manifest.members[name].samples) for name in manifest.chosen]
        self._grid(manifest, parent, "selected", rows, "grids")

    def _strategy(self, manifest: Manifest, parent: str, row: Mapping[str, Any]) -> None:
        run_id = self._below(
            manifest,
            parent,
            row["strategy"],
            "strategy",
            {"strategy": row["strategy"], "members": len(row["members"])},
            {"ensgan.strategy": row["strategy"]},
        )
        self.store.log_metrics(run_id, views.strategy_metrics(row))
        self.store.finish(run_id, "finished")

    def _ensemble(self, manifest: Manifest, parent: str) -> None:
        table, selected = manifest.downstream, manifest.selected
        assert manifest.ensemble is not None
        assert table is not None
        assert selected is not None
        self.store.log_folder(parent, manifest.ensemble, ENSEMBLE_FOLDER)
        self._files(
            parent,
            {"table.json": table.read_bytes(), "table.csv": views.downstream_csv(read_json(table))},
            "downstream",
        )
        if manifest.privacy is not None:
            self._files(parent, {"memorisation.json": manifest.privacy.read_bytes()}, "privacy")
        size = float(len(selected.members))
        self.store.log_metrics(parent, {**selected.objectives(), "size": size})
        self.store.set_tags(
            parent,
            {
                TAG_SELECTED: ",".join(selected.members),
                "ensgan.rule": selected.rule,
                TAG_DIGEST: ensemble_digest(manifest.ensemble),
            },
        )
        for gan in dict.fromkeys(map(gan_of, selected.members)):
            own = [name for name in selected.members if gan_of(name) == gan]
            self.store.set_tags(self.state.runs[gan], {TAG_SELECTED: ",".join(own)})

    def _end(self, manifest: Manifest, parent: str) -> None:
        for stage, seconds in manifest.stages.items():
            self.store.log_metrics(parent, {f"seconds.{stage.replace(' ', '_')}": seconds})
        self.store.log_file(parent, self.folder.manifest_path)
        self.store.finish(parent, "failed" if manifest.status == "failed" else "finished")

    def _report(self, manifest: Manifest, parent: str) -> None:
        log_report(self.store, parent, manifest, self.illustrator.report(self.store, parent))

    def _files(self, run_id: str, contents: Mapping[str, bytes], folder: str) -> None:
        for name, content in contents.items():
            path = self.folder.file("pictures", f"{folder}/{name}" if folder else name)
            write_bytes(path, content)
            self.store.log_file(run_id, path, folder)
