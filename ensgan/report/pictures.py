"""The pictures a sweep records: image grids and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ensgan.report.grid import image_grid
from ensgan.types import Front, UInt8Array


class Pictures:
    """Implements :class:`ensgan.pipeline.record.Illustrator`."""

    def grid(self, title: str, rows: Sequence[tuple[str, UInt8Array]]) -> Mapping[str, bytes]:
        """One PNG named after the title."""
        return {f"{title}.png": image_grid(rows)}

    def front(self, front: Front) -> Mapping[str, bytes]:
        """The front as an interactive page and as a static picture."""
        # Two plotting libraries: loaded only where a front is drawn.
        from ensgan.report.front_plot import front_html, front_png

        return {"front.html": front_html(front).encode(), "front.png": front_png(front)}
