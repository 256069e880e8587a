"""The card (README.md) that travels with an ensemble."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ensgan.types import gan_of

_NON_COMMERCIAL = re.compile(r"\bNC\b|-NC-|-NC\b|non-?commercial", re.IGNORECASE)
_CLASSIFIER = ("accuracy", "g_mean", "auc")
_LONGEST_LINE = 300
_UNRECORDED = "Not recorded."
_OWN_SECTIONS = ("downstream", "memorisation")
_PRIVACY = (
    ("images", "images"),
    ("copy_candidates", "copy candidates"),
    ("copy_share", "their share"),
    ("baseline_share", "share among held-out real images"),
    ("authenticity", "authenticity"),
    ("c_t", "C_T"),
    ("p_value", "p"),
)


def non_commercial(licences: Iterable[str]) -> list[str]:
    """The licence notes that forbid commercial use."""
    return [note for note in licences if _NON_COMMERCIAL.search(note)]


def card_text(manifest: Mapping[str, Any]) -> str:
    """Markdown of the card for the content of ``ensemble.json`` (``files`` not needed)."""
    dataset = manifest["dataset"]
    name = markdown(dataset.get("name", "unnamed data"))
    image = manifest["image"]
    colour = "grey" if image["channels"] == 1 else "RGB"
    parts = [
        f"# Ensemble of {len(manifest['members'])} {_made(manifest)} {name}",
        f"Makes synthetic {colour} images of {image['size']}×{image['size']} pixels in "
        f"{len(manifest['class_names'])} classes.",
        "## Intended use",
        "Research on synthetic medical images only. **Not for clinical use**: no image made by "
        "this ensemble may support a diagnosis, and no image shows a real patient's condition.",
        "## Training data",
        _rows(dataset),
        "## Labels",
        _labels(manifest),
        "## Generators",
        _generators(manifest),
        "## Scores",
        _rows({k: v for k, v in manifest["metrics"].items() if k not in _OWN_SECTIONS}),
        *_downstream(manifest["metrics"].get("downstream")),
        "Scores were taken in the feature space of this extractor and are comparable only with "
        "scores taken in the same one:",
        _rows(manifest["extractor"]),
        "## Known failures",
        _failures(manifest),
        "## Privacy",
        _privacy(manifest["metrics"]),
        "## Licences",
        _licences(manifest["licences"]),
        "## How it was made",
        _rows({k: v for k, v in manifest["provenance"].items() if k != "variations"}),
        "## Use",
        "`ensemble.json` lists every file with its SHA-256; the weights are safetensors, and "
        "nothing here is executable.",
        '```python\nimport ensgan\n\nsamples = ensgan.load_ensemble("FOLDER").sample(64, seed=1)\n'
        "samples.images, samples.labels, samples.members\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _generators(manifest: Mapping[str, Any]) -> str:
    """The members; where their sweep varied settings, with the values of each."""
    varied = manifest["provenance"].get("variations", {})
    head = ("member", "kind", "share", *(["settings"] if varied else []))
    rows = [
        (
            *(one["name"], one["kind"], f"{one['weight']:.1%}"),
            *([varied.get(gan_of(one["name"]), {})] if varied else []),
        )
        for one in manifest["members"]
    ]
    return _table(head, rows)


def _made(manifest: Mapping[str, Any]) -> str:
    """Generators that were trained here, or banks of images whose training nobody here knows."""
    kinds = {one["kind"] for one in manifest["members"]}
    return "generators trained on" if kinds == {"gan"} else "generators for"


def _labels(manifest: Mapping[str, Any]) -> str:
    classes = zip(manifest["class_names"], manifest["class_shares"], strict=False)
    rows = [(index, name, f"{share:.1%}") for index, (name, share) in enumerate(classes)]
    return (
        "A label is the class that a generator was asked for, not a finding in the image: nobody "
        "has checked it. Unless labels are given, they are drawn by these shares.\n\n"
        + _table(("label", "class", "share"), rows)
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [[markdown(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _downstream(table: Any) -> list[str]:
    """The classifiers trained on each strategy's images: means on real test images, the verdict.

    Understands ``{"strategies": [{"strategy": …, "metrics": {name: {"mean": …, "sd": …}}}]}``,
    with ``verdict`` or ``undecided`` where they were tested.
    """
    if not isinstance(table, Mapping):
        return []
    found = [
        row
        for row in table.get("strategies", [])
        if isinstance(row, Mapping) and isinstance(row.get("metrics"), Mapping)
    ]
    names = [name for name in _CLASSIFIER if any(name in row["metrics"] for row in found)]
    if not names:
        return []
    rows = [
        [row.get("strategy", ""), row.get("repeats", "")]
        + [_spread(row["metrics"].get(name)) for name in names]
        for row in found
    ]
    said = table.get("verdict") or table.get("undecided")
    return [
        "A classifier trained on each set of images, tested on real ones (mean ± standard "
        "deviation over repeats):",
        _table(("trained on", "repeats", *names), rows),
        *([f"Verdict: {markdown(said)}."] if said else []),
    ]


def _spread(entry: Any) -> str:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("mean"), float):
        return "–"
    sd = entry.get("sd")
    return f"{entry['mean']:.3f}" + (f" ± {sd:.3f}" if isinstance(sd, float) else "")


def _failures(manifest: Mapping[str, Any]) -> str:
    told = manifest["provenance"]
    notes = [*told.get("cautions", ()), *told.get("known_failures", ())]
    known = [f"- {markdown(note)}" for note in notes]
    lines = [
        *known,
        "- Rare findings of the training data may be missing altogether; density and coverage "
        "measure what an extractor sees, not what a radiologist sees.",
        "- Artifacts and biases of the training data are reproduced.",
        "- Scores say nothing about other populations, devices or image sizes.",
    ]
    return "\n".join(lines)


def _privacy(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("memorisation")
    if not isinstance(found, Mapping) or "ensemble" not in found:
        reason = found.get("problem", "") if isinstance(found, Mapping) else ""
        return (
            "No memorisation test is recorded for this ensemble"
            + (f" ({markdown(reason)})" if reason else "")
            + ". GANs trained on small sets can repeat training images: test before sharing images."
        )
    of = {"all members together": found["ensemble"], **found.get("members", {})}
    rows = [[name, *(row.get(key, "") for key, _ in _PRIVACY)] for name, row in of.items()]
    return (
        f"Generated images were compared with the {markdown(found.get('train_images'))} training "
        f"images and with {markdown(found.get('held_out_images'))} real images held out of "
        f"training ({markdown(found.get('held_out'))} split). A copy candidate lies much nearer to "
        "a training image than that image lies to any other; held-out images show how often this "
        "rule errs. C\\_T far below 0 (small p) means copying. This test sees near copies in one "
        "feature space; it does not prove that no patient can be recognised, and protects nobody "
        "formally.\n\n" + _table(("images of", *(label for _, label in _PRIVACY)), rows)
    )


def _licences(licences: Sequence[str]) -> str:
    lines = [f"- {markdown(note)}" for note in licences] or [_UNRECORDED]
    if flagged := non_commercial(licences):
        lines += ["", f"**Non-commercial parts:** {markdown('; '.join(flagged))}."]
    return "\n".join(lines)


def _rows(values: Mapping[str, Any]) -> str:
    """A list of the values that fit on one line; for others it refers to the manifest."""
    lines = []
    for key, value in values.items():
        text = markdown(value)
        if text and (len(text) <= _LONGEST_LINE or isinstance(value, str)):
            lines.append(f"- {markdown(key)}: {text}")
        elif text:
            lines.append(f"- {markdown(key)}: see ensemble.json")
    return "\n".join(lines) or _UNRECORDED


def markdown(value: Any) -> str:
    """Text that Markdown and HTML show as it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{markdown(key)} {markdown(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(markdown(entry) for entry in value)
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]<>|#~]|\b_|_\b)", r"\\\1", text.replace("&", "&amp;")).replace(
        "\\<", "&lt;"
    )
