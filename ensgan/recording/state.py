"""What is recorded of a sweep and under which run IDs: ``recorded.json`` in its folder."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from ensgan.errors import InputError
from ensgan.files import content_key, read_json, write_json
from ensgan.store import RunStore


class RecordState:
    """The state of one spec in one store; those of a sweep's other specs are kept beside it.

    Args:
        path: the file; absent before the first run is made.

    Attributes:
        runs: run ID by name; empty while the store has been asked for one and has not answered.
    """

    def __init__(self, path: Path, store: RunStore) -> None:
        self.path = path
        self.store = store
        self._value: dict[str, Any] = {"runs": {}, "done": []}

    def open(self, spec: dict[str, Any]) -> None:
        """Read the state of a spec; one that ran before it and never ended is ended now.

        Raises:
            StoreError: the store cannot be reached.
        """
        key = content_key(spec, self.store.uri)
        value = read_json(self.path) if self.path.exists() else {}
        if value.get("key") != key:
            earlier = value.pop("earlier", [])
            if value.get("runs"):
                self._end_if_running(value, spec["name"])
                earlier.append(value)
            fresh = {"key": key, "uri": self.store.uri, "runs": {}, "done": []}
            value = next((old for old in earlier if old["key"] == key), fresh)
            value["earlier"] = [old for old in earlier if old is not value]
        value.setdefault("nonce", uuid.uuid4().hex)
        self._value = value

    @property
    def runs(self) -> dict[str, str]:
        """Run ID by name."""
        return self._value["runs"]  # type: ignore[no-any-return]

    def token(self, name: str) -> str:
        """A text that no other run carries, to find this one by when its creation got lost."""
        return f"{self._value['nonce']}:{name}"

    def is_done(self, name: str) -> bool:
        """Whether an item has been recorded."""
        return name in self._value["done"]

    def mark(self, name: str) -> None:
        """An item has been recorded."""
        self._value["done"].append(name)
        self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, self._value)

    def _end_if_running(self, value: dict[str, Any], name: str) -> None:
        run_id = value["runs"].get(name)
        if run_id and value.get("uri") == self.store.uri:
            with suppress(InputError):  # somebody has deleted it
                if self.store.get(run_id).status == "running":
                    self.store.finish(run_id, "killed")
