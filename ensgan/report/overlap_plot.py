"""Heat map of how much the members of a pool overlap."""

from __future__ import annotations

import io

from ensgan.types import FrontPoint, PoolScores


def overlap_png(scores: PoolScores, selected: FrontPoint | None = None) -> bytes:
    """The symmetric overlap d(S_g, S_h) of every pair as a PNG; selected members are starred.

    Args:
        scores: of M members in pool order, which is the order of rows and columns.
    """
    import numpy as np
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    chosen = set(selected.members) if selected is not None else set()
    size = 3.0 + 0.105 * max(len(scores), 10)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    axes = figure.subplots()
    known = np.isfinite(scores.overlap)
    highest = float(scores.overlap[known].max()) if known.any() else 1.0
    # A few pairs overlap much more than the others: the root keeps those others apart.
    norm = PowerNorm(0.5, vmin=0, vmax=max(highest, 1e-9))
    image = axes.imshow(scores.overlap, cmap="viridis", norm=norm)
    labels = [f"★ {name}" if name in chosen else name for name in scores.names]
    font = 8 if len(scores) <= 30 else 5.5
    axes.set_xticks(range(len(scores)), labels, rotation=90, fontsize=font)
    axes.set_yticks(range(len(scores)), labels, fontsize=font)
    axes.set_title(
        "Overlap of members (lower is better; ★ selected)", fontsize=9 if len(scores) < 30 else 12
    )
    figure.colorbar(image, ax=axes, shrink=0.7, label="d(S_g, S_h), mean of both directions")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
