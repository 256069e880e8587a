"""Pictures of a Pareto front: an interactive page (plotly) and a static one (matplotlib)."""

from __future__ import annotations

import io

from ensgan.types import Front, FrontPoint

INTER_LABEL = "Inter-d (overlap between members, lower is better)"
INTRA_LABEL = "Intra-d (fidelity to the real images, higher is better)"


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
    figure.update_layout(title=_title(front), xaxis_title=INTER_LABEL, yaxis_title=INTRA_LABEL)
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
    axes.set(xlabel=INTER_LABEL, ylabel=INTRA_LABEL, title=_title(front))
    axes.legend()
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
