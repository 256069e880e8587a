"""The pictures and the page that a sweep records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ensgan.report.grid import image_grid
from ensgan.store import RunStore
from ensgan.types import Front, FrontPoint, PoolScores, UInt8Array


class Pictures:
    """Implements :class:`ensgan.recording.views.Illustrator`.

    The plotting libraries are loaded only where something is drawn.
    """

    def grid(self, title: str, rows: Sequence[tuple[str, UInt8Array]]) -> Mapping[str, bytes]:
        """One PNG named after the title."""
        return {f"{title}.png": image_grid(rows)}

    def front(self, front: Front, selected: FrontPoint | None) -> Mapping[str, bytes]:
        """The front as an interactive page and as a static picture."""
        from ensgan.report.front_plot import front_html, front_png

        return {
            "front.html": front_html(front, selected).encode(),
            "front.png": front_png(front, selected),
        }

    def pool(
        self, scores: PoolScores, front: Front, selected: FrontPoint | None
    ) -> Mapping[str, bytes]:
        """Heat maps: how the members overlap, and which of them the front uses."""
        from ensgan.report.front_plot import membership_png
        from ensgan.report.overlap_plot import overlap_png

        return {
            "overlap.png": overlap_png(scores, selected),
            "membership.png": membership_png(front),
        }

    def report(self, store: RunStore, run_id: str) -> bytes:
        """The page about a sweep, without a real image."""
        from ensgan.report.content import collect
        from ensgan.report.page import render

        return render(collect(store, run_id)).encode()
