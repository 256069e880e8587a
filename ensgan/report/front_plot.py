"""Pictures of a Pareto front: an interactive page (plotly) and a static one (matplotlib)."""

from __future__ import annotations

import io
from collections import Counter

from ensgan.types import Front, FrontPoint

INTER_LABEL = "Inter-d (overlap between members, lower is better)"
INTRA_LABEL = "Intra-d (fidelity to the real images, higher is better)"


def axis_labels(front: Front) -> tuple[str, str]:
    """Labels of Inter-d and Intra-d, or of what stands in their place."""
    if not front.objectives or front.objectives[0].startswith("intra_d"):
        return INTER_LABEL, INTRA_LABEL
    intra, inter = (name.partition(":")[0] for name in front.objectives[:2])
    return f"{inter} (lower is better)", f"{intra} (higher is better)"


def front_html(front: Front, selected: FrontPoint | None = None) -> str:
    """A self-contained page: one mark a point, its members on hover; ``selected`` is marked."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=[point.inter_d for point in front],
            y=[point.intra_d for point in front],
            mode="lines+markers",
            line={"dash": "dot"},
            name="Pareto front",
            text=[_members(point) for point in front],
            hovertemplate="Intra-d %{y:.4f}, Inter-d %{x:.4f}<br>%{text}<extra></extra>",
        )
    )
    if selected is not None:
        figure.add_trace(
            go.Scatter(
                x=[selected.inter_d],
                y=[selected.intra_d],
                mode="markers",
                marker={"size": 14, "symbol": "star"},
                name="selected",
            )
        )
    x_label, y_label = axis_labels(front)
    # MLflow shows the page in a narrow column.
    figure.update_layout(
        title={"text": _title(front).replace(" (", "<br>("), "font": {"size": 14}},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1},
        margin={"l": 60, "r": 20, "t": 90, "b": 60},
        xaxis_title=x_label,
        yaxis_title=y_label,
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def front_png(front: Front, selected: FrontPoint | None = None) -> bytes:
    """The same as a PNG file's content."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [point.inter_d for point in front],
        [point.intra_d for point in front],
        "o:",
        label="Pareto front",
    )
    if selected is not None:
        axes.plot([selected.inter_d], [selected.intra_d], "r*", markersize=14, label="selected")
    x_label, y_label = axis_labels(front)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(_title(front), fontsize=10)
    axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def membership_png(front: Front, most: int = 40) -> bytes:
    """Heat map as a PNG: which member (row, the most frequent first) is in which front point.

    Columns run from the smallest Intra-d (and Inter-d) to the largest. At most ``most`` members
    are shown; the number behind a name is its share of the front's points.
    """
    from matplotlib.figure import Figure

    points = sorted(front, key=lambda point: point.intra_d)
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
        xlabel="front points, by rising Intra-d",
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


def _members(point: FrontPoint) -> str:
    shown = "<br>".join(point.members[:20])
    more = len(point.members) - 20
    return f"{len(point.members)} members:<br>{shown}" + (f"<br>… and {more} more" * (more > 0))
