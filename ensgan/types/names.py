"""What the objectives of a front and the generators of a pool are called; needs no numpy."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

DEFAULT_FORM = "capped"
"""The form of the first two objectives where none is named."""
EARLIER_FORM = "paper"
"""What it was when files did not yet name it."""


@dataclass(frozen=True)
class Objective:
    """One objective of a front.

    Attributes:
        key: its name in the front file, e.g. ``intra_d``.
        name: as people read it, e.g. ``Intra-d``.
        meaning: a few words, or nothing.
        maximise: whether larger is better.
        variant: which of several forms of it, e.g. ``symmetric``; empty for the only one.
    """

    key: str
    name: str
    meaning: str = ""
    maximise: bool = True
    variant: str = ""

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

    def of_variant(self, variant: str) -> Objective:
        """The same objective in one of its forms."""
        return replace(self, variant=variant)

    @property
    def text(self) -> str:
        """As a front file has it: ``KEY:max`` or ``KEY:min:VARIANT``."""
        parts = (self.key, "max" if self.maximise else "min", self.variant)
        return ":".join(filter(None, parts))


INTRA_D = Objective("intra_d", "Intra-d", "fidelity to the real images")
INTER_D = Objective("inter_d", "Inter-d", "overlap between members", maximise=False)

# A front file holds keys alone; it adds the names of objectives that are not in this table.
_READINGS = {
    "intra_d": (INTRA_D.name, INTRA_D.meaning),
    "inter_d": (INTER_D.name, INTER_D.meaning),
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

_FORMS = {"precision_recall": "precision-recall", "frechet": "frechet"}
_MEASURES = {
    "frechet": "Fréchet distance",
    "frechet_between": "distance between members",
    "intra_d_paper": "paper Intra-d",
}


def read_objective(
    text: str, *, maximise: bool, reading: tuple[str, str] | None = None
) -> Objective:
    """An objective from its text in a front file: ``KEY``, ``KEY:max``, ``KEY:min:VARIANT``.

    Args:
        text: as the file has it; keys that are not known are their own names.
        maximise: the direction when the text has none.
        reading: name and meaning, where the file holds them.
    """
    key, _, rest = text.partition(":")
    direction, _, variant = rest.partition(":")
    name, meaning = reading or _READINGS.get(key, (key, ""))
    up = direction == "max" if direction in ("max", "min") else maximise
    return Objective(key, name, meaning, up, variant)


def needs_reading(objective: Objective) -> bool:
    """Whether a front file must hold the objective's name for others to know it."""
    return _READINGS.get(objective.key) != (objective.name, objective.meaning)


def form_name(name: str) -> str:
    """Today's name of a form of the objectives; earlier versions spelled one otherwise."""
    return EARLIER_FORM if name == "density-coverage" else name


def form_of(objectives: tuple[str, ...]) -> str:
    """The form of a front whose file does not name it: an older one."""
    key = objectives[0].partition(":")[0] if objectives else ""
    return _FORMS.get(key, EARLIER_FORM)


def measure_name(key: str) -> str:
    """Column heading of a further measure of a front point."""
    return _MEASURES.get(key, key.replace("_", " "))


MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@~-]{0,120}")
"""What a member of an ensemble may be called: it becomes part of a file's name."""


def gan_of(member: str) -> str:
    """The GAN, with its variation, of a generator of the pool, in ``GAN@STEP``.

    That is a GAN at one snapshot; where a sweep varies settings it is ``GAN~VARIATION@STEP``. A
    generator from elsewhere has a plain name, which is given back.
    """
    return member.partition("@")[0]


def row_of(name: str) -> str:
    """The zoo's GAN in ``GAN~VARIATION`` or ``GAN~VARIATION@STEP``."""
    return gan_of(name).partition("~")[0]


def step_of(member: str) -> int:
    """The step in ``GAN@STEP``, 0 for the plain name of a generator from elsewhere."""
    step = member.partition("@")[2]
    return int(step) if step.isdigit() else 0
