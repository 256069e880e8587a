"""Where the synthetic images of the members come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.types import Samples


class SampleBank(Protocol):
    """Gives the images of a member by name."""

    def load(self, name: str) -> Samples:
        """Images and labels of one member."""


@dataclass(frozen=True)
class FolderBank:
    """Members as ``folder/<member>.npz``, read when asked for."""

    folder: Path

    def load(self, name: str) -> Samples:
        """Read one member.

        Raises:
            InputError: there is no such member.
            DataError: its file is damaged.
        """
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            known = [file.stem for file in self.folder.glob("*.npz")]
            if not known:
                raise DataError(f"{self.folder} holds no member images (*.npz)")
            raise InputError(unknown_name("member", name, known))
        return Samples.load(path)


@dataclass(frozen=True)
class MemoryBank:
    """Members that are already in memory."""

    members: Mapping[str, Samples] = field(default_factory=dict)

    def load(self, name: str) -> Samples:
        """Images of one member.

        Raises:
            InputError: there is no such member.
        """
        if name not in self.members:
            raise InputError(unknown_name("member", name, self.members))
        return self.members[name]
