"""Records a sweep's manifest in the tracking store.

The manifest on disk is authoritative, the store a view of it. Recording goes through the manifest
and does what is missing; ``recorded.json`` lists what is done. So recording can be interrupted at
any point, can fail for as long as the tracking server is away, and can be repeated
(``ensgan sync``) without writing anything twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ensgan.store as stores
from ensgan.files import LARGEST_JSON, content_key, read_json, read_text, write_bytes
from ensgan.inputs import explained
from ensgan.report import content, figures, page, views
from ensgan.report.record_state import RecordState
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import SelectedRecord
from ensgan.sweep.records import MemberResult
from ensgan.text import hide_credentials
from ensgan.types import Front, PoolScores, Samples, gan_of, step_of

GRID_COLUMNS = 8


class Recording:
    """One pass over the manifest at a time; see the module's text."""

    def __init__(self, folder: SweepFolder, store: stores.RunStore) -> None:
        self.folder = folder
        self.store = store
        self.state = RecordState(folder.record_path, store)

    def bring_up_to_date(self) -> str | None:
        """Record everything the manifest holds and the store does not.

        Returns:
            The parent's run ID; None when the sweep has not begun.

        Raises:
            StoreError: the store cannot be reached; what is recorded stays recorded.
        """
        recorded = self.recorded_run()
        if recorded is not None or not self.folder.has_begun:
            return recorded
        self.parent = self._parent()
        self.state.save()  # also when nothing is left to record
        for name, record in self._items():
            if not self.state.is_done(name):
                record()
                self.state.mark(name)
        return self.parent

    def recorded_run(self) -> str | None:
        """The parent's run ID if nothing is left to record, otherwise None.

        The store is asked only if its address has changed since.
        """
        if not self.folder.has_begun:
            return None
        self.manifest = manifest = self.folder.read()
        name = manifest.settings.name
        self.state.open(manifest.spec, name)
        last = f"report:{manifest.finished}"
        if manifest.status == "running" or not self.state.is_done(last):
            return None
        return self.state.runs.get(name)

    def _run(
        self,
        name: str,
        kind: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        parent: str | None,
    ) -> str:
        """The run of this name, created if it does not exist.

        If an earlier request to create it was never answered (an outage, a kill), the run that it
        may have made is looked for first.
        """
        manifest, runs = self.manifest, self.state.runs
        if runs.get(name):
            return runs[name]
        token = self.state.token(name)
        params = {**views.common(manifest), **params}
        made = self._unanswered(token, kind, params, parent) if name in runs else None
        if made is None:
            runs[name] = ""
            self.state.save()
            tags = {**views.common_tags(manifest), **tags, stores.TAG_RECORD: token}
            made = self.store.create_run(name, kind=kind, parent=parent, params=params, tags=tags)
        runs[name] = made
        self.state.save()
        return made

    def _unanswered(
        self, token: str, kind: str, params: Mapping[str, object], parent: str | None
    ) -> str | None:
        known = self.store.find(kind=kind) if parent is None else self.store.children(parent)
        for record in known:
            if record.tags.get(stores.TAG_RECORD) == token:
                self.store.log_params(record.run_id, params)
                return record.run_id
        return None

    def _items(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """The items to record, in order; an item's name changes with its content."""
        manifest = self.manifest
        complete = Counter(map(gan_of, manifest.planned_names))
        for gan, results in content.by_gan(manifest).items():
            if len(results) >= complete[gan] or manifest.status != "running":
                key = content_key(*(result.sha256 for result in results))
                yield f"gan:{gan}:{key}", partial(self._gan, gan, results)
        front, trials, scores = manifest.front, manifest.trials, manifest.scores
        selected = manifest.selected if manifest.chosen else None
        if front is not None and trials is not None:
            yield f"search:{self._place(front)}", partial(self._search, front, trials)
        if front is not None and scores is not None and selected is not None:
            key = content_key(self._place(front), selected.tree())
            yield f"pool:{key}", partial(self._pool, front, scores)
        table = manifest.downstream
        if table is not None:
            with explained(f"{table} is damaged, it lists no strategies"):
                rows = {
                    f"strategy:{row['strategy']}:{content_key(row)}": row
                    for row in read_json(table)["strategies"]
                }
            yield from ((name, partial(self._strategy, row)) for name, row in rows.items())
        if manifest.ensemble is not None and table is not None and selected is not None:
            record = partial(self._ensemble, manifest.ensemble, table, selected)
            yield f"ensemble:{self._place(manifest.ensemble)}", record
        if manifest.status != "running":
            yield f"end:{manifest.finished}", self._end
            yield f"report:{manifest.finished}", self._report

    def _place(self, path: Path) -> str:
        """A result's path relative to the folder, the same wherever the folder lies."""
        return path.relative_to(self.folder.path).as_posix()

    def _parent(self) -> str:
        manifest = self.manifest
        params = {
            **content.leaves(manifest.spec),
            **views.version_params(manifest.versions),
            "members": manifest.planned,
        }
        tags = views.grown_tags(manifest)
        run_id = self._run(manifest.settings.name, "sweep", params, tags, None)
        if not self.state.is_done("dataset"):
            self._log_dataset(run_id)
            self.state.mark("dataset")
        return run_id

    def _log_dataset(self, run_id: str) -> None:
        dataset = self.manifest.dataset
        self.store.log_dataset(
            run_id,
            name=dataset.name,
            digest=dataset.key[:16],
            source=dataset.source,
            sizes=dataset.images,
        )

    def _gan(self, gan: str, results: Sequence[MemberResult]) -> None:
        hashes = {f"sha256.{step_of(result.name)}": result.sha256 for result in results}
        varied = views.variation(self.manifest, gan)
        params = {"gan": gan, **varied, "snapshots": len(results), **hashes}
        tags = {stores.TAG_GAN: gan, "ensgan.health": "; ".join(views.health(results)) or "ok"}
        run_id = self._run(gan, "gan", params, tags, self.parent)
        self.store.log_history(
            run_id,
            [
                *views.history(results),
                *((step_of(result.name), views.member_metrics(result)) for result in results),
            ],
        )
        self._log_dataset(run_id)
        rows = {result.name.rpartition("@")[2]: result.samples for result in results}
        self._grid(run_id, gan, rows, f"grid-{gan}")
        self.store.finish(run_id, "finished")

    def _grid(self, run_id: str, title: str, samples: Mapping[str, Path], folder: str) -> None:
        """Generated images; if the sweep asks for it, also a file with real ones on top."""
        grids = {title: samples}
        if self.manifest.settings.track.show_real:
            real = self.folder.real_images(self.manifest.dataset.key)
            grids[f"{title}-with-real"] = {"real": real, **samples}
        for name, files in grids.items():
            rows = [(row, Samples.load(file).images[:GRID_COLUMNS]) for row, file in files.items()]
            self._files(run_id, {f"{name}.png": content.image_grid(rows)}, folder)

    def _search(self, front_path: Path, trials: Path) -> None:
        front = Front.load(front_path)
        params = {"sampler": front.sampler, "search.seed": front.seed, "trials": front.trials}
        run_id = self._run("search", "search", params, {}, self.parent)
        self.store.log_metrics(
            run_id,
            {
                "hypervolume": front.hypervolume,
                "distinct": float(front.distinct),
                "points": float(len(front)),
                "seconds": front.seconds,
            },
        )
        self.store.log_file(run_id, trials, "search")
        self.store.finish(run_id, "finished")

    def _pool(self, front_path: Path, scores_path: Path) -> None:
        """The main pictures and tables of the pool, recorded with the sweep's own run."""
        manifest, parent = self.manifest, self.parent
        front, scores = Front.load(front_path), PoolScores.load(scores_path)
        point = None if manifest.selected is None else manifest.selected.point(front)
        shown = {
            "front.json": front_path.read_bytes(),
            "front.html": page.front_html(front, point).encode(),
            "front.png": figures.front_png(front, point),
        }
        self._files(parent, shown, "front")
        shown = {
            "overlap.png": figures.overlap_png(scores, point),
            "membership.png": figures.png(figures.membership_figure(front)),
            "members.csv": views.members_csv(manifest),
            "scores.npz": scores_path.read_bytes(),
        }
        self._files(parent, shown, "pool")
        if manifest.validation is not None:
            self._files(parent, {"validated.json": manifest.validation.read_bytes()}, "select")
        rows = {name: manifest.members[name].samples for name in manifest.chosen}
        self._grid(parent, "selected", rows, "grids")

    def _strategy(self, row: Mapping[str, Any]) -> None:
        name = row["strategy"]
        params = {"strategy": name, "members": len(row["members"])}
        run_id = self._run(name, "strategy", params, {"ensgan.strategy": name}, self.parent)
        self.store.log_metrics(run_id, views.strategy_metrics(row))
        self.store.finish(run_id, "finished")

    def _ensemble(self, folder: Path, table: Path, selected: SelectedRecord) -> None:
        parent, privacy = self.parent, self.manifest.privacy
        self.store.log_folder(parent, folder, stores.ENSEMBLE_FOLDER)
        tables = {
            "table.json": table.read_bytes(),
            "table.csv": views.downstream_csv(read_json(table)),
        }
        self._files(parent, tables, "downstream")
        if privacy is not None:
            self._files(parent, {"memorisation.json": privacy.read_bytes()}, "privacy")
        size = float(len(selected.members))
        proof = views.downstream_metrics(read_json(table))
        self.store.log_metrics(parent, {**proof, **selected.objectives(), "size": size})
        self.store.set_tags(parent, views.chosen_tags(selected.members, selected.rule, folder))
        for gan in dict.fromkeys(map(gan_of, selected.members)):
            chosen = [name for name in selected.members if gan_of(name) == gan]
            self.store.set_tags(self.state.runs[gan], {stores.TAG_SELECTED: ",".join(chosen)})

    def _end(self) -> None:
        seconds = {
            f"seconds.{stage.replace(' ', '_')}": seconds
            for stage, seconds in self.manifest.stages.items()
        }
        self.store.log_metrics(self.parent, seconds)
        # Others can read what is recorded, and the tracking address may contain a password.
        shown = self.folder.file("pictures", "manifest.json")
        write_bytes(
            shown, hide_credentials(read_text(self.folder.manifest_path, LARGEST_JSON)).encode()
        )
        self.store.log_file(self.parent, shown)
        failed = self.manifest.status == "failed"
        self.store.finish(self.parent, "failed" if failed else "finished")

    def _report(self) -> None:
        shown = content.collect(self.store, self.parent)
        views.log_report(self.store, shown, page.render(shown).encode())

    def _files(self, run_id: str, contents: Mapping[str, bytes], folder: str) -> None:
        for name, value in contents.items():
            path = self.folder.file("pictures", f"{folder}/{name}")
            write_bytes(path, value)
            self.store.log_file(run_id, path, folder)
