"""The report: complete, self-contained, escaped, and without real images unless asked."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_run import EVIL, pixels, recorded, scores

from ensgan.errors import DataError, InputError
from ensgan.report import figures
from ensgan.report.content import collect, image_grid
from ensgan.report.figures import overlap_png
from ensgan.report.page import number, render, verdict
from ensgan.types import PoolScores


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    store, run_id = recorded(tmp_path_factory.mktemp("sweep"))
    return render(collect(store, run_id))


def test_names_cannot_write_markup(page: str) -> None:
    elements = Elements(page)
    scripts = [attributes for tag, attributes in elements.tags if tag == "script"]
    assert len(scripts) == 1
    assert "<script>alert" not in page
    assert "{{7*7}}" in page  # text, not a template
    assert elements.text.count(EVIL) >= 8  # shown where names are shown
    assert not [key for _, attributes in elements.tags for key in attributes if key[:2] == "on"]


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    for tag, attributes in Elements(page).tags:
        for name in ("src", "href", "action", "srcset", "data", "xlink:href"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:image/png;base64,", "#")), (tag, value)
    assert "@import" not in page
    assert "url(" not in page
    assert len(page) < 1_000_000


def test_the_policy_admits_the_pages_own_script_and_style_only(page: str) -> None:
    policy = next(
        attributes["content"]
        for _, attributes in Elements(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        assert body is not None
        digest = base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [tag for tag, attributes in Elements(page).tags if "style" in attributes]


def test_every_section_says_what_was_recorded(page: str) -> None:
    text = " ".join(Elements(page).text.split())
    for expected in (
        "8 different ensembles were evaluated",
        "Failed: C:",
        "0.750 ± 0.050",
        "0.600 … 0.900",
        "0.040",
        "one image only",
        "undecided: too little training.",
        "-2.500",
        "Non-commercial parts: SwAV weights: CC BY-NC 4.0",
        "This page holds no real image",
        "ensgan pull",
    ):
        assert expected in text, expected


def test_the_front_can_be_walked_with_the_keyboard(page: str) -> None:
    elements = Elements(page).tags
    points = [a for tag, a in elements if tag == "use" and "point" in (a.get("class") or "")]
    rows = {a.get("id") for tag, a in elements if tag == "tr"}
    assert len(points) == 2
    for point in points:
        assert point["tabindex"] == "0"
        assert point["role"] == "button"
        assert "members: A@10" in (point["aria-label"] or "")
        assert point["data-row"] in rows  # the static table says the same
    assert sum("chosen" in (point["class"] or "") for point in points) == 1
    for tag, attributes in elements:
        if tag == "img":
            assert attributes.get("alt")


def test_each_form_of_the_objectives_is_called_by_its_own_names(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    content = collect(store, run_id)
    assert content.front is not None
    measures = (("frechet", 2.5), ("frechet_between", 7.25), ("parameters", 4_500_000.0))
    points = tuple(
        replace(point, measures=tuple((key, value * (i + 1)) for key, value in measures))
        for i, point in enumerate(content.front.points)
    )
    objectives = ("frechet:max:1-d/scale", "frechet_between:min:1-d/scale", "parameters:min")
    front = replace(content.front, objectives=objectives, points=points)
    page = render(replace(content, front=front, selected=points[0]))
    elements = Elements(page)
    text = " ".join(elements.text.split())
    shown = text[text.index("The selected ensemble") : text.index("Overlap map")]
    assert "Intra-d" not in shown and "Inter-d" not in shown
    for expected in (
        "Fréchet closeness (to the real images, higher is better); Fréchet overlap (between",
        "no other beats in all three",
        "The colour of a mark is its parameters",
        "Fréchet distance2.5000",  # of the selected ensemble
        "7.2500",
        "4.5e+06",
    ):
        assert expected in shown, expected
    fills = {a["fill"] for _, a in elements.tags if "point" in (a.get("class") or "")}
    assert len(fills) == 2  # the cheaper one has another colour
    assert "Fréchet closeness 0.9000, Fréchet overlap 0.4000, parameters 4.5e+06, 2 members" in page


def test_a_sweep_with_nothing_but_a_manifest(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path, bare=True)
    text = Elements(render(collect(store, run_id))).text
    assert "No front is recorded" in text
    assert "No downstream test is recorded" in text
    assert "No memorisation test is recorded" in text


def test_real_images_only_when_asked(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    real = base64.b64encode(
        image_grid([("normal", pixels(1)[::2]), (EVIL, pixels(1)[1::2])])
    ).decode()
    plain = render(collect(store, run_id))
    asked = render(collect(store, run_id, real_from=tmp_path))
    assert real not in plain
    assert real in asked
    assert "holds no real image" not in asked
    assert asked.count("<img") == plain.count("<img") + 2
    next((tmp_path / "sweeps" / "evil" / "data").glob("*-train.npz")).unlink()
    with pytest.raises(InputError, match="is not on this machine"):
        collect(store, run_id, real_from=tmp_path)


def test_runs_without_a_report_say_why(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    child = store.children(run_id)[0].run_id
    with pytest.raises(InputError, match="a run of kind 'gan'"):
        collect(store, child)
    with pytest.raises(InputError, match="not yet finished"):
        collect(store, store.create_run("new", kind="sweep"))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "ensemble.json").write_text("{}")
    bundled = store.create_run("bundled", kind="sweep")
    store.log_folder(bundled, tmp_path / "bundle", "ensemble")
    store.finish(bundled)
    with pytest.raises(InputError, match=f"was bundled, .* ensgan pull {bundled}"):
        collect(store, bundled)


@pytest.mark.parametrize("content", [None, b"{}", b"[1]"])
@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "front/front.json",
        "downstream/table.json",
        "privacy/memorisation.json",
        "ensemble/ensemble.json",
    ],
)
def test_recorded_files_that_are_damaged_are_named(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    store, run_id = recorded(tmp_path)
    whole = store.read(run_id, name)
    path = tmp_path / "damaged" / Path(name).name
    path.parent.mkdir()
    path.write_bytes(whole[:-20] if content is None else content)
    store.log_file(run_id, path, name.rpartition("/")[0])
    assert store.read(run_id, name) != whole
    try:
        render(collect(store, run_id))  # a table without rows, for example, is shown as that
    except DataError as error:
        assert Path(name).stem in str(error) and len(str(error)) < 300
    else:
        assert content is not None


def test_drawings_need_no_style_attribute_and_keep_their_text(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) == 4  # strategies with their intervals, front, its members, overlap
    for drawing in drawings:
        assert "style=" not in drawing and "clip-path" not in drawing
        assert 'stroke="currentColor"' in drawing  # readable on dark pages
    labels = Elements(drawings[0]).text
    assert EVIL in labels and "AUC on real test images" in labels
    assert "random ensembles" in drawings[1] and "all members" in drawings[1]


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    content = collect(store, run_id)
    assert content.table is not None
    row = {**content.table["strategies"][0], "strategy": "cost $\\frac$"}
    page = render(replace(content, table={**content.table, "strategies": [row]}))
    assert "cost $\\frac$" in re.findall(r"<svg.*?</svg>", page, re.S)[0]


def test_numbers_as_people_read_them() -> None:
    values = (None, 3, 0.12345, 0.00001234, True, "text", 0.0)
    assert [number(value) for value in values] == [
        *("–", "3", "0.1235", "1.2e-05", "True", "text", "0.0000")
    ]


def test_many_members_are_labelled_by_their_gan(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["A@1", "★ A@2", "B@1", "outside", "B~x@1"]
    monkeypatch.setattr(figures, "LABELLED", 4)
    axes = figures.overlap_figure(scores(), names).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["★ A", "B", "outside", "B~x"]
    assert axes.get_yticks().tolist() == [0.5, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("m", [2, 35])
def test_the_overlap_map_is_drawn(m: int) -> None:
    overlap = np.full((m, m), 0.3)
    np.fill_diagonal(overlap, np.nan)
    names = tuple(f"G@{i}" for i in range(m))
    scores = PoolScores(
        names,
        np.ones(m),
        np.ones(m),
        np.zeros((m, 1), np.uint8),
        overlap,
        k=5,
        n_real=8,
        counts=np.full(m, 8),
    )
    assert overlap_png(scores).startswith(b"\x89PNG")


def test_the_verdict_comes_first(page: str) -> None:
    text = " ".join(Elements(page).text.split())
    start = text[: text.index("What was run")]
    for expected in (
        "G* is 2 of 4 generators: A@10, B@10",
        "How sure undecided: too little training",
        "Get it ensgan pull ",
        "Research only, not for clinical use",
        f"{EVIL} reaches no real image.",
    ):
        assert expected in start, expected
    assert text.index("G* is 2 of 4") < text.index("The selected ensemble G*")


def test_how_good_is_said_beside_what_it_is_compared_with(tmp_path: Path) -> None:
    store, run_id = recorded(tmp_path)
    content = collect(store, run_id)
    row = {"members": ["A@10"], "repeats": 5}
    means = {"selected": 0.9, "real": 0.99, "all": 0.88, "best-single": 0.7}
    spread = {"sd": 0.1, "low": 0.6, "high": 1.0, "difference": None, "p": None}
    rows = [
        {**row, "strategy": name, "metrics": {"auc": {**spread, "mean": mean}}}
        for name, mean in means.items()
    ]
    table = {**(content.table or {}), "strategies": rows}
    said = verdict(replace(content, table=table)).lines["How good"]
    assert said == (
        "a classifier trained on its images alone reaches an AUC of 0.900 (95 % interval 0.600 … "
        "1.000) on real test images, against 0.990 (95 % interval 0.600 … 1.000) from real images, "
        "0.880 (95 % interval 0.600 … 1.000) from the whole pool, 0.700 (95 % interval 0.600 … "
        "1.000) from the best single one"
    )


def test_a_report_of_a_large_pool_is_small(tmp_path: Path) -> None:
    """110 members, 22 GANs with five snapshots of eight images each."""
    store, run_id = recorded(tmp_path)
    content = collect(store, run_id)
    rng = np.random.default_rng(0)
    names = tuple(f"GAN{i // 5:02}@{i % 5 + 1}" for i in range(110))
    smooth = np.kron(rng.integers(0, 256, (8, 8, 8)), np.ones((1, 4, 4))).astype(np.uint8)
    smooth += rng.integers(0, 20, smooth.shape, dtype=np.uint8)
    grid = image_grid([(str(row), smooth) for row in range(5)])
    masks = rng.integers(0, 256, (110, 12), dtype=np.uint8)
    coverage = np.unpackbits(masks, axis=1).mean(axis=1)
    overlap = rng.random((110, 110))
    counts = np.full(110, 8, np.int64)
    pool = PoolScores(names, rng.random(110), coverage, masks, overlap, 5, 96, counts)
    gans = dict.fromkeys(name.partition("@")[0] for name in names)
    member = next(iter(content.manifest.members.values()))
    members = {name: member.model_copy(update={"name": name}) for name in names}
    manifest = content.manifest.model_copy(update={"members": members})
    page = render(replace(content, manifest=manifest, scores=pool, grids=dict.fromkeys(gans, grid)))
    assert page.count('class="strip snapshots"') == 22
    assert len(page.encode()) < 3_000_000
