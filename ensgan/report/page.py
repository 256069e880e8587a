"""The report: one HTML file that shows a sweep without network, server or real images."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from ensgan.ensemble import non_commercial
from ensgan.recording.views import by_gan
from ensgan.report import geometry
from ensgan.report.content import Content
from ensgan.report.front_plot import best_of_two

SHOWN_METRICS = ("accuracy", "g_mean", "auc")
_PRIVACY_COLUMNS = {
    "images": "images",
    "copy_candidates": "copy candidates",
    "copy_share": "their share",
    "baseline_share": "share among held-out real",
    "median_ratio": "median distance ratio",
    "authenticity": "authenticity",
    "c_t": "C_T",
    "p_value": "p",
}


def render(content: Content) -> str:
    """The page. Names from runs, tags and files are escaped; nothing is loaded from elsewhere.

    A content security policy allows the page's own script and style by their hashes and pictures
    inside the page, nothing else.
    """
    template = _templates().get_template("report.html")
    style, script = (_source(name) for name in ("report.css", "report.js"))
    return template.render(
        content=content,
        manifest=content.manifest,
        record=content.record,
        chosen=set(content.manifest.chosen),
        drawing=_front_drawing(content),
        selected_facts=_selected_facts(content),
        members=by_gan(content.manifest),
        settings=_leaves(content.manifest.spec),
        overlap=_picture(content.overlap_png),
        membership=_picture(content.membership_png),
        selected_grid=_picture(content.selected_png),
        grids={gan: _picture(png) for gan, png in content.grids.items()},
        real={title: _picture(png) for title, png in content.real.items()},
        forest=_forest(content.table),
        shown_metrics=SHOWN_METRICS,
        privacy_columns=_PRIVACY_COLUMNS,
        flagged=non_commercial((content.ensemble or {}).get("licences", ())),
        # Markup: these two are this package's own files.
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
    )


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ensgan.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["percent"] = percent
    return environment


def _source(name: str) -> str:
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _policy(style: str, script: str) -> str:
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def number(value: Any, digits: int = 4) -> str:
    """A figure as people read it: integers whole, others rounded, – for none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 10.0**-digits else f"{value:.{digits}f}"


def percent(value: Any) -> str:
    """A share as per cent."""
    return f"{value:.1%}" if isinstance(value, (int, float)) else "–"


def _picture(content: bytes | None) -> str:
    """A PNG as an address inside the page; empty for none."""
    if content is None:
        return ""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{prefix}{key}.")
        elif value not in (None, [], ""):
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            found[f"{prefix}{key}"] = text
    return found


def _front_drawing(content: Content) -> dict[str, Any] | None:
    """Coordinates of the front's drawing; points from the smallest Inter-d to the largest.

    A third objective is how full the marks are: the larger, the fuller.
    """
    front = content.front
    if front is None or len(front) == 0:
        return None
    points = sorted(front, key=lambda point: (point.inter_d, *front.values(point)))
    x, y = geometry.front_axes([p.inter_d for p in points], [p.intra_d for p in points])
    shades = geometry.shades([sum(front.values(point)[2:]) for point in points])
    marks = [
        {
            "x": x(point.inter_d),
            "y": y(point.intra_d),
            "shade": shade,
            "point": point,
            "cells": front.cells(point),
            "selected": point == content.selected,
        }
        for point, shade in zip(points, shades, strict=True)
    ]
    edge = [(x(point.inter_d), y(point.intra_d)) for point in best_of_two(front)]
    return {
        "width": geometry.WIDTH,
        "height": geometry.HEIGHT,
        "left": geometry.LEFT,
        "right": geometry.WIDTH - geometry.RIGHT,
        "top": geometry.TOP,
        "bottom": geometry.HEIGHT - geometry.BOTTOM,
        "x": x,
        "y": y,
        "axes": front.axes,
        "marks": marks,
        "line": " ".join(f"{across},{up}" for across, up in edge),
    }


def _selected_facts(content: Content) -> dict[str, Any]:
    """The rule and the values of the chosen ensemble, by the names of its objectives."""
    chosen = content.manifest.selected
    if chosen is None:
        return {}
    if content.front is not None and content.selected is not None:
        return {"rule": chosen.rule, **content.front.cells(content.selected)}
    names = {"intra_d": "Intra-d", "inter_d": "Inter-d"}
    values = {names.get(key, key): value for key, value in chosen.objectives().items()}
    return {"rule": chosen.rule, **values}


def _forest(table: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Coordinates of the g-mean of every strategy with its interval, clipped to [0, 1]."""
    rows: Sequence[Mapping[str, Any]] = (table or {}).get("strategies", ())
    rows = [row for row in rows if "g_mean" in row["metrics"]]
    if not rows:
        return None
    scale = geometry.Axis(0.0, 1.0, 200, 620)
    lines = []
    for index, row in enumerate(rows):
        spread = row["metrics"]["g_mean"]
        low, high = spread["low"], spread["high"]
        lines.append(
            {
                "name": row["strategy"],
                "y": 24 + 24 * index,
                "mean": scale(spread["mean"]),
                "low": None if low is None else scale(low),
                "high": None if high is None else scale(high),
                "text": number(spread["mean"], 3),
            }
        )
    return {"lines": lines, "height": 24 * len(rows) + 50, "scale": scale}
