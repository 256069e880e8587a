"""Pictures of a front."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ensgan.report.front_plot import front_html, front_png, membership_png
from ensgan.types import Front, FrontPoint

POINTS = (
    FrontPoint(("A@1", "B@1", "C@2"), 0.9, 0.4, 0.9, 0.9),
    FrontPoint(("A@1", "C@2"), 0.7, 0.1, 0.7, 0.7),
)
FRONT = Front(("intra_d:max", "inter_d:min:symmetric"), "pareto-local", 0, 9, 8, 0.1, 0.7, POINTS)


def test_pictures_are_png_and_the_page_names_members() -> None:
    for picture in (front_png(FRONT, POINTS[0]), membership_png(FRONT)):
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000
    page = front_html(FRONT, POINTS[1])
    assert "A@1" in page
    assert "Intra-d" in page


@pytest.mark.parametrize("points", [(), POINTS[:1]])
def test_small_fronts_can_be_drawn(points: tuple[FrontPoint, ...]) -> None:
    front = replace(FRONT, points=points)
    assert membership_png(front).startswith(b"\x89PNG")
    assert front_png(front).startswith(b"\x89PNG")


def test_rare_members_are_left_out_when_asked() -> None:
    assert len(membership_png(FRONT, most=1)) != len(membership_png(FRONT, most=3))
