"""Pictures of a front."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ensgan.report.figures import best_of_two, front_png, membership_figure, png
from ensgan.report.page import front_html
from ensgan.types import Front, FrontPoint

POINTS = (
    FrontPoint(("A@1", "B@1", "C@2"), 0.9, 0.4, 0.9, 0.9),
    FrontPoint(("A@1", "C@2"), 0.7, 0.1, 0.7, 0.7),
)
FRONT = Front(("intra_d:max", "inter_d:min:symmetric"), "pareto-local", 0, 9, 8, 0.1, 0.7, POINTS)


def test_pictures_are_png_and_the_page_names_members() -> None:
    for picture in (front_png(FRONT, POINTS[0]), png(membership_figure(FRONT))):
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000
    page = front_html(FRONT, POINTS[1])
    assert "Selected, G*. Intra-d 0.7000, Inter-d 0.1000, 2 members: A@1, C@2" in page
    assert len(page) < 40_000 and "://" not in page  # all of it is in the page


@pytest.mark.parametrize("points", [(), POINTS[:1]])
def test_small_fronts_can_be_drawn(points: tuple[FrontPoint, ...]) -> None:
    front = replace(FRONT, points=points)
    assert png(membership_figure(front)).startswith(b"\x89PNG")
    assert front_png(front).startswith(b"\x89PNG")
    assert front_html(front).count('class="point"') == len(points)


def test_rare_members_are_left_out_when_asked() -> None:
    assert len(png(membership_figure(FRONT, most=1))) != len(png(membership_figure(FRONT, most=3)))


FORMS = {
    ("intra_d:max", "inter_d:min:symmetric"): ("Intra-d (fid", "Inter-d (overlap"),
    ("precision_recall:max", "precision_recall_between:min"): (
        "precision-recall (harmonic mean of both, higher is better)",
        "mutual precision (between members, lower is better)",
    ),
    ("frechet:max:1-d/scale", "frechet_between:min:1-d/scale"): (
        "Fréchet closeness (to the real images, higher is better)",
        "Fréchet overlap (between members, lower is better)",
    ),
    ("mine:max", "yours:min"): ("mine (higher is better)", "yours (lower is better)"),
}


@pytest.mark.parametrize("objectives", list(FORMS))
def test_axes_are_called_what_they_are(objectives: tuple[str, ...]) -> None:
    front = replace(FRONT, objectives=objectives)
    (drawing,) = re.findall(r"<svg.*?</svg>", front_html(front, POINTS[0]), re.S)
    for label in FORMS[objectives]:
        assert label in drawing
    assert ("Intra-d" in drawing) == objectives[0].startswith("intra_d")
    assert front_png(front) != front_png(replace(FRONT, objectives=("a:max", "b:min")))


def test_a_third_objective_is_the_colour_of_the_marks() -> None:
    points = tuple(
        replace(p, measures=(("cost", cost),)) for p, cost in zip(POINTS, (2.5, 7.5), strict=True)
    )
    dear = replace(points[1], first=0.6, second=0.2, measures=(("cost", 1.0),))
    front = replace(FRONT, objectives=(*FRONT.objectives, "cost:min"), points=(*points, dear))
    assert best_of_two(front) == list(points)
    page = front_html(front)
    assert "cost (summed over the members, lower is better)" in page
    assert "cost 7.5" in page
    assert front_png(front, dear) != front_png(replace(front, objectives=FRONT.objectives), dear)
