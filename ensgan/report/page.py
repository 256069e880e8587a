"""The pages: a sweep's report and its front, HTML files that need no network and no server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from ensgan.downstream.statistics import RANKED, how_good
from ensgan.ensemble import non_commercial
from ensgan.report import figures
from ensgan.report.content import Content, by_gan, cautions, grown_from, leaves
from ensgan.search import FORMS, Evaluator, find_form
from ensgan.text import counted, duration, hide_credentials, markdown, printable
from ensgan.types import BoolArray, Float64Array, Front, FrontPoint

RANDOM_DRAWN = 300
"""Random ensembles drawn behind a front."""


def render(content: Content) -> str:
    """The page. Names from runs, tags and files are escaped; nothing is loaded from elsewhere.

    A content security policy allows the page's own script and style by their hashes and pictures
    inside the page, nothing else.
    """
    front = content.front
    return _page(
        "report.html",
        content=content,
        manifest=content.manifest,
        record=content.record,
        chosen=set(content.manifest.chosen),
        drawing=None if not front else _front_drawing(front, content.selected, _others(content)),
        verdict=verdict(content),
        membership=figures.inline_svg(figures.membership_figure(front)) if front else None,
        overlap=_overlap(content),
        selected_facts=_selected_facts(content),
        members=by_gan(content.manifest),
        grown_from=grown_from(content.manifest),
        settings=_settings(content.manifest.spec),
        forest=_forest(content.table),
        flagged=non_commercial((content.ensemble or {}).get("licences", ())),
    )


def front_html(front: Front, selected: FrontPoint | None = None) -> str:
    """A page of the front alone: members under the pointer, arrow keys, and a table."""
    drawing = _front_drawing(front, selected) if len(front) else None
    return _page("front_page.html", drawing=drawing, title=figures.front_title(front))


def _page(template: str, **values: Any) -> str:
    """A page with this package's style and script, and a policy that admits nothing else."""
    style, script = (_source(name) for name in ("report.css", "report.js"))
    # Not escaped, because these two files belong to this package.
    page = templates().get_template(template)
    policy = _policy(style, script)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values)


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """The templates of the pages; HTML is escaped, Markdown is not."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ensgan.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        # Foreign text may contain control characters that change the reading direction.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "counted": counted,
        "markdown": markdown,
        "number": number,
        "percent": percent,
        "picture": _picture,
    }
    return environment


def _source(name: str) -> str:
    environment = templates()
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
    """A number as text: integers whole, others rounded, – for None."""
    if value is None or value == "":
        return "–"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 10.0**-digits else f"{value:.{digits}f}"


def percent(value: Any) -> str:
    """A share as per cent."""
    return f"{value:.1%}" if isinstance(value, (int, float)) else "–"


def _picture(content: bytes) -> str:
    """A PNG as a ``data:`` URL."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the spec that are not empty, by their dotted names."""
    return {
        key: hide_credentials(", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for key, value in leaves(spec).items()
        if value not in (None, [], "")
    }


def _others(content: Content) -> Mapping[str, Float64Array]:
    """Objectives of ensembles to compare the front with: random ones, and the whole pool."""
    front, scores = content.front, content.scores
    if front is None or scores is None or len(scores) < 3 or front.form not in FORMS:
        return figures.NONE
    if find_form(front.form).needs_features:
        return figures.NONE
    inter = content.manifest.settings.search.inter
    evaluator = Evaluator(scores, inter=inter, objectives=front.form)
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, len(scores), RANDOM_DRAWN).tolist()
    drawn = evaluator.subsets(
        rng.choice(len(scores), size, replace=False).tolist() for size in sizes
    )

    def objectives(subsets: BoolArray) -> Float64Array:
        values = evaluator(subsets)
        return np.stack([values.first, values.second], axis=1)

    everything = np.ones((1, len(scores)), bool)
    return {"random ensembles": objectives(drawn), "all members": objectives(everything)}


def _overlap(content: Content) -> dict[str, Any] | None:
    """The overlap map as a drawing, and its values for the pointer."""
    scores, chosen = content.scores, content.manifest.chosen
    if scores is None:
        return None
    values = [[None if np.isnan(d) else round(float(d), 3) for d in row] for row in scores.overlap]
    names = figures.starred(scores.names, chosen)
    svg = figures.inline_svg(figures.overlap_figure(scores, names))
    return {"svg": svg, "names": names, "values": values}


def _front_drawing(
    front: Front, selected: FrontPoint | None, others: Mapping[str, Float64Array] = figures.NONE
) -> dict[str, Any]:
    """The drawing of a front and its rows; points run from the smallest second objective up."""
    points = sorted(front, key=lambda point: (front.values(point)[1], *front.values(point)))
    ordered = replace(front, points=tuple(points))
    rows, marks = [], []
    for number, point in enumerate(points, 1):
        chosen = point == selected
        label = _point_label(front, point, chosen=chosen)
        rows.append({"point": point, "cells": front.cells(point), "selected": chosen})
        marks.append(
            {
                "class": "point chosen" if chosen else "point",
                "tabindex": "0",
                "role": "button",
                "data-row": f"front-{number}",
                "aria-label": label,
                "title": label,
            }
        )
    figure = figures.front_figure(ordered, selected, others, figures.ON_PAGES)
    svg = figures.inline_svg(figure, {figures.POINTS: marks})
    return {"axes": front.axes, "rows": rows, "svg": svg}


def _point_label(front: Front, point: FrontPoint, *, chosen: bool) -> str:
    """Description of a point: its objectives, how many members, and their names."""
    cells = front.cells(point)
    values = [f"{axis.name} {cells[axis.name]}" for axis in front.axes if axis.key != "members"]
    members = f"{counted(len(point.members), 'member')}: {', '.join(point.members)}"
    return ("Selected, G*. " if chosen else "") + ", ".join([*values, members])


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


def _forest(table: Mapping[str, Any] | None) -> Markup | None:
    """The g-mean of every strategy with its interval."""
    rows = [row for row in (table or {}).get("strategies", ()) if RANKED in row["metrics"]]
    rows.sort(key=lambda row: -row["metrics"][RANKED]["mean"])
    return figures.forest_svg(rows, RANKED, "AUC on real test images") if rows else None


@dataclass(frozen=True)
class Verdict:
    """The first lines of a report.

    Attributes:
        headline: which ensemble.
        lines: why it was chosen, how good it is, how sure that is, what it cost; by title.
        cautions: what is wrong with it, a sentence each.
    """

    headline: str
    lines: Mapping[str, str]
    cautions: Sequence[str]


def verdict(content: Content) -> Verdict:
    """The verdict on a recorded sweep."""
    manifest, table = content.manifest, content.table or {}
    if manifest.selected is None:
        return Verdict("No ensemble was selected", {}, cautions(content))
    names = manifest.chosen
    headline = (
        f"G* is {len(names)} of {counted(len(manifest.members), 'generator')}: {', '.join(names)}"
    )
    why = manifest.selected.reason.partition("; nearest alternatives")[0].removesuffix(".")
    lines = {"Why": why, "How good": how_good(table, intervals=True)}
    lines |= {"How sure": str(table.get("verdict") or ""), "Cost": _cost(content)}
    lines = {title: text for title, text in lines.items() if text}
    return Verdict(headline, lines, cautions(content))


def _cost(content: Content) -> str:
    stages = content.manifest.stages
    if "total" not in stages:
        return ""
    trained = sum(result.seconds.get("train", 0.0) for result in content.manifest.members.values())
    anew = content.manifest.earlier is None
    what = "the sweep took" if anew else "on the members of an earlier run this one took"
    parts = [f"{what} {duration(stages['total'])}"]
    if trained:
        parts.append(f"all trainings {duration(trained)} of machine time")
    return ", ".join(parts)
