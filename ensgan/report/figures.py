"""All drawings by matplotlib: fronts, overlaps, and downstream results."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from ensgan.files import first_bytes
from ensgan.search import pareto_front
from ensgan.text import counted
from ensgan.types import Float64Array, Front, FrontPoint, PoolScores, gan_of

NONE: Final[Mapping[str, Float64Array]] = MappingProxyType({})
OVERLAP = "overlap-map"
"""Identifier of the overlap map's picture in an SVG."""
POINTS = "front-points"
"""Identifier of a front's marks in an SVG, in the order of the points drawn."""
STAR = "★ "
"""Before the names of members that are selected."""
LABELLED = 45
"""Members up to which every row of the overlap map has a label that can be read."""
_RESOLUTION = 120
ON_PAGES = (5.6, 4.1)
"""Inches of a drawing on a page: its letters are then as large as those of the text."""
_MARKS = (b"Software\0ensgan", b'<meta name="generator" content="ensgan">')


def best_of_two(front: Front) -> list[FrontPoint]:
    """The points that no other beats in the first two objectives, by descending first objective.

    Of two objectives that is the whole front; with a third one the others lie behind its edge.
    """
    values = np.array([front.values(point)[:2] for point in front]).reshape(-1, 2)
    return [front.points[index] for index in pareto_front(values).tolist()]


def draw_front(axes: Any, front: Front, selected: FrontPoint | None = None) -> None:
    """Draw a front on matplotlib axes: one mark per point, a third objective as its colour.

    Args:
        axes: where to draw; gets labels and the legend's entries, but no legend.
        front: the second objective runs to the right, the first upwards.
        selected: marked with a star.
    """
    first, second, *third = front.axes
    edge = np.array([front.values(point)[:2] for point in best_of_two(front)]).reshape(-1, 2)
    values = np.array([front.values(point) for point in front]).reshape(-1, len(front.axes))
    label = f"best in {first.name} and {second.name}" if third else f"Pareto front ({len(front)})"
    axes.plot(edge[:, 1], edge[:, 0], ":", color="0.5", label=label, zorder=1)
    colours = {"c": values[:, 2]} if third else {"color": "C0"}
    marks = axes.scatter(values[:, 1], values[:, 0], s=30, zorder=2, gid=POINTS, **colours)
    if third:
        axes.figure.colorbar(marks, ax=axes, label=third[0].short_label)
    if selected is not None:
        upward, across, *_ = front.values(selected)
        axes.plot([across], [upward], "r*", ms=14, label="selected", gid="selected-mark", zorder=3)
    axes.set(xlabel=second.label, ylabel=first.label)


def front_title(front: Front) -> str:
    """How many ensembles the front holds, of how many, by what search."""
    return (
        f"{counted(len(front), 'Pareto-optimal ensemble')} of {front.distinct} tried "
        f"({front.sampler}, hypervolume {front.hypervolume:.4f})"
    )


def front_png(front: Front, selected: FrontPoint | None = None) -> bytes:
    """The front as a PNG file's content; ``selected`` is marked."""
    figure = front_figure(front, selected)
    figure.axes[0].set_title(front_title(front), fontsize=10)
    return png(figure)


def front_figure(
    front: Front,
    selected: FrontPoint | None,
    others: Mapping[str, Float64Array] = NONE,
    size: tuple[float, float] = (7, 5),
) -> Any:
    """The front with its legend.

    Args:
        front, selected: what is drawn.
        others: other ensembles by what they are called, first and second objective: [n,2].
        size: in inches.
    """
    figure, axes = new_figure(*size)
    for (label, values), marker in zip(others.items(), ".Ds", strict=False):
        look = {"color": "0.6", "s": 10} if len(values) > 1 else {"color": "C1", "s": 40}
        axes.scatter(values[:, 1], values[:, 0], marker=marker, label=label, zorder=1, **look)
    draw_front(axes, front, selected)
    axes.legend(frameon=False)  # a white frame would stay white on dark pages
    return figure


def forest_svg(rows: Sequence[Mapping[str, Any]], metric: str, label: str) -> Markup:
    """One line per strategy: the mean of a metric in [0, 1] and its 95 % interval.

    Args:
        rows: strategies of a downstream table that have the metric.
        metric: its key.
        label: what the axis is called.
    """
    figure, axes = new_figure(ON_PAGES[0], 0.8 + 0.3 * len(rows))
    ends = []
    for place, row in enumerate(rows):
        spread = row["metrics"][metric]
        colour = "C3" if row["strategy"].partition(":")[0] == "selected" else "C0"
        ends.append(spread["mean"])
        if spread["low"] is not None:
            ends += np.clip([spread["low"], spread["high"]], 0, 1).tolist()
            axes.plot(ends[-2:], [place] * 2, colour)
        axes.plot([spread["mean"]], [place], "o", color=colour)
    # Names come from users: a dollar sign in one is no formula.
    names = [row["strategy"] for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    limits = (max(-0.01, min(ends) - 0.02), min(1.01, max(ends) + 0.02))
    axes.set(xlim=limits, ylim=(len(rows) - 0.5, -0.5), xlabel=label)
    axes.grid(axis="x", alpha=0.3)
    return inline_svg(figure)


def overlap_figure(scores: PoolScores, names: Sequence[str]) -> Any:
    """Heat map of the overlap d(S_g, S_h) of every pair.

    Args:
        scores: of M members in pool order, which is the order of rows and columns.
        names: M labels.
    """
    from matplotlib.colors import PowerNorm

    size = 3.0 + 0.105 * max(len(scores), 10)
    figure, axes = new_figure(size + 0.6, size)
    known = np.isfinite(scores.overlap)
    highest = float(scores.overlap[known].max()) if known.any() else 1.0
    # A few pairs overlap much more than the rest; a square-root scale keeps the rest apart.
    norm = PowerNorm(0.5, vmin=0, vmax=max(highest, 1e-9))
    image = axes.imshow(scores.overlap, cmap="viridis", norm=norm, gid=OVERLAP)
    are_many = len(scores) > LABELLED
    labels: Mapping[float, str] = _by_gan(names) if are_many else dict(enumerate(names))
    font: dict[str, Any] = {"fontsize": 11 if are_many else 8, "parse_math": False}
    axes.set_xticks(list(labels), list(labels.values()), rotation=90, **font)
    axes.set_yticks(list(labels), list(labels.values()), **font)
    figure.colorbar(image, ax=axes, shrink=0.7, label="d(S_g, S_h), mean of both directions")
    return figure


def starred(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """The names, those of chosen members with a star before them."""
    return [f"{STAR}{name}" if name in chosen else name for name in names]


def overlap_png(scores: PoolScores, selected: FrontPoint | None = None) -> bytes:
    """Heat map of the overlap d(S_g, S_h) of every pair as a PNG; selected members are starred.

    Args:
        scores: of M members in pool order, which is the order of rows and columns.
    """
    figure = overlap_figure(scores, starred(scores.names, selected.members if selected else ()))
    figure.axes[0].set_title(
        "Overlap of members (lower is better; ★ selected)", fontsize=9 if len(scores) < 30 else 12
    )
    return png(figure, 110)


def _by_gan(names: Sequence[str]) -> dict[float, str]:
    """One label for the members of a GAN that lie side by side, in their middle."""
    labels: dict[float, str] = {}
    for gan, group in groupby(range(len(names)), lambda i: gan_of(names[i].removeprefix(STAR))):
        places = list(group)
        star = STAR * any(names[place].startswith(STAR) for place in places)
        labels[sum(places) / len(places)] = f"{star}{gan}"
    return labels


def membership_figure(front: Front, most: int = 40) -> Any:
    """Heat map: which member (row, the most frequent first) is in which front point.

    Columns run from the smallest first objective to the largest. At most ``most`` members are
    shown; the number behind a name is its share of the front's points.
    """
    points = sorted(front, key=lambda point: front.values(point)[0])
    counts = Counter(name for point in points for name in point.members)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    present = [[name in point.members for point in points] for name in names]
    figure, axes = new_figure(3 + 0.16 * max(len(points), 20), 1.2 + 0.2 * max(len(names), 4))
    axes.imshow(present or [[False]], aspect="auto", cmap="Blues", vmin=0, vmax=1)
    labels = [f"{name}  {counts[name] / len(points):.0%}" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8, parse_math=False)
    axes.set_xticks([])
    left_out = len(counts) - len(names)
    axes.set(
        xlabel=f"{counted(len(points), 'front point')}, by rising {front.axes[0].name}",
        title=f"Members on the front{f' ({left_out} rarer ones left out)' if left_out else ''}",
    )
    return figure


def new_figure(width: float, height: float) -> tuple[Any, Any]:
    """A matplotlib figure of this many inches, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def png(figure: Any, resolution: int = _RESOLUTION) -> bytes:
    """A matplotlib figure as a PNG file's content."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=resolution, metadata={"Software": "ensgan"})
    return stream.getvalue()


def is_figure(path: Path) -> bool:
    """Whether a file is a plot of ours: a PNG file of :func:`png` or a page of its templates."""
    return any(mark in first_bytes(path, 1 << 12) for mark in _MARKS)


def inline_svg(
    figure: Any, marks: Mapping[str, Sequence[Mapping[str, str]]] | None = None
) -> Markup:
    """A matplotlib figure as an SVG element that a page with a strict policy may hold.

    A content security policy without ``unsafe-inline`` ignores ``style`` attributes, so they
    become presentation attributes, which the page's style sheet may also override. Black becomes
    the page's own text colour, and the background stays the page's.

    Args:
        figure: what to draw.
        marks: by identifier of a scatter's collection, the attributes of each of its marks in
            order; ``title`` becomes the text shown under the pointer.
    """
    import matplotlib

    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    stream = io.BytesIO()
    # Text stays text, so that it can be searched and read aloud and takes the page's font. The salt
    # gives equal figures equal identifiers.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ensgan"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        _plain_attributes(element)
    for name, attributes in (marks or {}).items():
        _describe_marks(root, name, attributes)
    for size in ("width", "height"):
        del root.attrib[size]  # the page decides; the view box keeps the proportions
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _plain_attributes(element: ElementTree.Element) -> None:
    """Styles as attributes, links without namespaces, no clipping (nothing leaves the axes)."""
    for declaration in element.attrib.pop("style", "").split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name == "font":  # earlier versions of matplotlib write all about a font at once
            name, value = "font-size", re.sub(r"^.*?([\d.]+px).*$", r"\1", value)
        if name and name != "font-family":
            element.set(name, value)
    for name, value in list(element.attrib.items()):
        if "}" in name:
            del element.attrib[name]
            element.set(name.rpartition("}")[2], value)
        elif value == "#000000":
            element.set(name, "currentColor")
    element.attrib.pop("clip-path", None)


def _describe_marks(
    root: ElementTree.Element, name: str, attributes: Sequence[Mapping[str, str]]
) -> None:
    """Give the marks of one collection their attributes and titles."""
    (group,) = (element for element in root.iter("g") if element.get("id") == name)
    # A path that many marks use is defined once; a single mark is a path of its own.
    defined = {part for defs in group.iter("defs") for part in defs.iter()}
    drawn = [e for e in group.iter() if e.tag in ("use", "path") and e not in defined]
    for mark, values in zip(drawn, attributes, strict=True):
        for key, value in values.items():
            if key == "title":
                ElementTree.SubElement(mark, "title").text = value
            else:
                mark.set(key, value)
