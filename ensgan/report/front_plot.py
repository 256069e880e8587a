"""Pictures of a Pareto front: an interactive page (plotly) and a static one (matplotlib)."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np

from ensgan.search import pareto_front
from ensgan.types import Front, FrontPoint


def best_of_two(front: Front) -> list[FrontPoint]:
    """The points that no other beats in the first two objectives, by falling first objective.

    Of two objectives that is the whole front; with a third one the others lie behind its edge.
    """
    values = np.array([front.values(point)[:2] for point in front]).reshape(-1, 2)
    return [front.points[index] for index in pareto_front(values).tolist()]


def front_html(front: Front, selected: FrontPoint | None = None) -> str:
    """A self-contained page: one mark a point, its members on hover; ``selected`` is marked.

    A third objective is the marks' colour.
    """
    import plotly.graph_objects as go

    first, second, *third = front.axes
    edge = best_of_two(front)
    figure = go.Figure(
        go.Scatter(
            x=[point.second for point in edge],
            y=[point.first for point in edge],
            mode="lines",
            line={"dash": "dot"},
            name=f"best in {first.name} and {second.name}" if third else "Pareto front",
            showlegend=bool(third),
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[point.second for point in front],
            y=[point.first for point in front],
            mode="markers",
            marker=_colours(front),
            name="Pareto front",
            text=[_hover(front, point) for point in front],
            hovertemplate="%{text}<extra></extra>",
        )
    )
    if selected is not None:
        figure.add_trace(
            go.Scatter(
                x=[selected.second],
                y=[selected.first],
                mode="markers",
                marker={"size": 14, "symbol": "star"},
                name="selected",
                hoverinfo="skip",
            )
        )
    # MLflow shows the page in a narrow column.
    figure.update_layout(
        title={"text": _title(front).replace(" (", "<br>("), "font": {"size": 14}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1},
        margin={"l": 60, "r": 20, "t": 90, "b": 60},
        xaxis_title=second.label,
        yaxis_title=first.label,
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _colours(front: Front) -> dict[str, Any]:
    if front.third is None:
        return {}
    return {
        "color": [front.values(point)[2] for point in front],
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": front.axes[2].label, "side": "right"}},
    }


def front_png(front: Front, selected: FrontPoint | None = None) -> bytes:
    """The same as a PNG file's content."""
    from matplotlib.figure import Figure

    first, second, *third = front.axes
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    edge = best_of_two(front)
    xs, ys = ([getattr(p, name) for p in edge] for name in ("second", "first"))
    if third:
        axes.plot(xs, ys, ":", label=f"best in {first.name} and {second.name}", zorder=1)
        marks = axes.scatter(
            [point.second for point in front],
            [point.first for point in front],
            c=[front.values(point)[2] for point in front],
            s=20,
            zorder=2,
        )
        figure.colorbar(marks, ax=axes, label=third[0].label)
    else:
        axes.plot(xs, ys, "o:", label="Pareto front")
    if selected is not None:
        axes.plot([selected.second], [selected.first], "r*", markersize=14, label="selected")
    axes.set(xlabel=second.label, ylabel=first.label)
    axes.set_title(_title(front), fontsize=10)
    axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def membership_png(front: Front, most: int = 40) -> bytes:
    """Heat map as a PNG: which member (row, the most frequent first) is in which front point.

    Columns run from the smallest first objective to the largest. At most ``most`` members
    are shown; the number behind a name is its share of the front's points.
    """
    from matplotlib.figure import Figure

    points = sorted(front, key=lambda point: point.first)
    counts = Counter(name for point in points for name in point.members)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    present = [[name in point.members for point in points] for name in names]
    size = (3 + 0.16 * max(len(points), 20), 1.2 + 0.2 * max(len(names), 4))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(present or [[False]], aspect="auto", cmap="Blues", vmin=0, vmax=1)
    labels = [f"{name}  {counts[name] / len(points):.0%}" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    left_out = len(counts) - len(names)
    axes.set(
        xlabel=f"front points, by rising {front.axes[0].name}",
        title=f"Members on the front{f' ({left_out} rarer ones left out)' if left_out else ''}",
    )
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def _title(front: Front) -> str:
    return (
        f"{len(front)} Pareto-optimal ensembles of {front.distinct} tried "
        f"({front.sampler}, hypervolume {front.hypervolume:.4f})"
    )


def _hover(front: Front, point: FrontPoint) -> str:
    values = ", ".join(f"{name} {text}" for name, text in front.cells(point).items())
    shown = "<br>".join(point.members[:20])
    more = len(point.members) - 20
    return f"{values}<br>{len(point.members)} members:<br>{shown}" + (
        f"<br>… and {more} more" * (more > 0)
    )
