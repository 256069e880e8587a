"""A strategy: which images a downstream classifier is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ensgan.errors import InputError

Kind = Literal["real", "synthetic", "real+synthetic", "dynamic"]


@dataclass(frozen=True)
class Strategy:
    """A named training set.

    Attributes:
        name: as the user wrote it; several draws of one strategy end in ``#0``, ``#1``, ….
        members: the generators, empty for ``real``.
        weights: chance of each member to give an image (scaled to sum 1), None for equal chances;
            for ``dynamic`` the chances to begin with.
        kind: real images, synthetic ones, both, or synthetic ones whose weights adapt.
        n_times: synthetic images an epoch, in multiples of the usual number.
    """

    name: str
    members: tuple[str, ...] = ()
    weights: tuple[float, ...] | None = None
    kind: Kind = "synthetic"
    n_times: int = 1

    def __post_init__(self) -> None:
        if (self.kind == "real") != (not self.members):
            raise InputError(
                f"strategy '{self.name}' of kind '{self.kind}' has {len(self.members)} members: "
                "only 'real' has none"
            )
        if len(set(self.members)) != len(self.members):
            raise InputError(f"strategy '{self.name}' names a member twice")
        if self.n_times < 1:
            raise InputError(f"n_times must be at least 1, not {self.n_times}")
        weights = self.weights
        if weights is not None and (
            len(weights) != len(self.members)
            or not all(weight >= 0 for weight in weights)
            or not 0 < sum(weights) < float("inf")
        ):
            raise InputError(
                f"strategy '{self.name}' needs one weight ≥ 0 a member, not all 0; it has "
                f"{len(self.members)} members and the weights {list(weights)}"
            )

    @property
    def group(self) -> str:
        """The name without the number of the draw."""
        return self.name.partition("#")[0]

    def to_json(self) -> dict[str, Any]:
        """The strategy as results record it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "members": list(self.members),
            "weights": None if self.weights is None else list(self.weights),
            "n_times": self.n_times,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Strategy:
        """Read what :meth:`to_json` wrote."""
        weights = value["weights"]
        return cls(
            value["name"],
            tuple(value["members"]),
            None if weights is None else tuple(weights),
            value["kind"],
            value["n_times"],
        )
