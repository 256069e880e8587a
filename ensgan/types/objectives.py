"""What the objectives of a front are called, and which way they are better."""

from __future__ import annotations

from dataclasses import dataclass

_READINGS = {
    "intra_d": ("Intra-d", "fidelity to the real images"),
    "inter_d": ("Inter-d", "overlap between members"),
    "precision_recall": ("precision-recall", "harmonic mean of both"),
    "precision_recall_between": ("mutual precision", "between members"),
    "frechet": ("Fréchet closeness", "to the real images"),
    "frechet_between": ("Fréchet overlap", "between members"),
    "members": ("number of members", ""),
    "cost": ("cost", "summed over the members"),
    "parameters": ("parameters", "summed over the members"),
    "seconds": ("seconds", "time to make the members' images"),
}
"""By an objective's key in a front file: its name and what it means."""

_MEASURES = {"frechet": "Fréchet distance", "frechet_between": "distance between members"}


@dataclass(frozen=True)
class Objective:
    """One objective of a front.

    Attributes:
        key: its name in the front file, e.g. ``intra_d``.
        name: as people read it, e.g. ``Intra-d``.
        meaning: a few words, or nothing.
        maximise: whether larger is better.
    """

    key: str
    name: str
    meaning: str
    maximise: bool

    @property
    def label(self) -> str:
        """Name, meaning and direction."""
        return f"{self.name} ({', '.join(filter(None, (self.meaning, self._better)))})"

    @property
    def short_label(self) -> str:
        """Name and direction, for narrow axes."""
        return f"{self.name} ({self._better})"

    @property
    def _better(self) -> str:
        return f"{'higher' if self.maximise else 'lower'} is better"


def read_objective(text: str, *, maximise: bool) -> Objective:
    """An objective from its text in a front file: ``KEY``, ``KEY:max``, ``KEY:min:FORM``.

    Args:
        text: as the file has it; keys that are not ours are their own names.
        maximise: the direction when the text has none.
    """
    key, _, rest = text.partition(":")
    direction = rest.partition(":")[0]
    name, meaning = _READINGS.get(key, (key, ""))
    up = direction == "max" if direction in ("max", "min") else maximise
    return Objective(key, name, meaning, up)


def measure_name(key: str) -> str:
    """Column heading of a further measure of a front point."""
    return _MEASURES.get(key, key)
