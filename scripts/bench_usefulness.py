"""What scores and rules are worth: 104 ensembles of a good pool whose classifiers are known.

Reads ../shared/bench/pool60: 60 GAN snapshots on PneumoniaMNIST, their scores in two feature
spaces, and what a sound classifier reached after training on each of 104 ensembles. A score's worth
is its rank correlation with the test AUC, a rule's is the test AUC of what it picks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ensgan import embedding
from ensgan.data import load_dataset
from ensgan.downstream import (
    Candidate,
    CappedIntraD,
    LabelledFeatures,
    LinearProbe,
    Strategy,
    ValidationTrial,
    choose_unvalidated,
    choose_validated,
    rank_correlation,
)
from ensgan.errors import InputError
from ensgan.evaluation.prediction import score_values
from ensgan.types import PoolScores, harmonic_mean

POOL = Path(__file__).resolve().parents[2] / "shared" / "bench" / "pool60"
MIXES = {
    "as shipped": (0.5, 0.5, 1, 0),
    "probe AUC alone": (1, 0, 0, 0),
    "probe loss alone": (0, 1, 0, 0),
    "capped Intra-d alone": (0, 0, 1, 0),
    "members alone": (0, 0, 0, 1),
    "probe twice": (1, 1, 1, 0),
    "capped Intra-d twice": (0.5, 0.5, 2, 0),
    "loss and capped Intra-d": (0, 1, 1, 0),
    "AUC and capped Intra-d": (1, 0, 1, 0),
    "as shipped, half of members": (0.5, 0.5, 1, 0.5),
}
"""Weights of the ranks of probe AUC, its loss, capped Intra-d and the number of members."""
SPACES = ("medical-joint", "random-joint", "medical-class", "random-class")
RECORDED = ("knee", "ratio", "utopia", "max-intra", "margin", "top3", "top10", "top20", "top30")
"""Picks that the pool's own record names, by its scores as the paper has them."""
N_REAL = 4708


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument(
        "--overlap", action="store_true", help="also overlap inside real balls (a minute)"
    )
    parser.add_argument("--modes", type=int, default=0, help="phantom pools of known modes")
    parser.add_argument("--data", type=Path, default=POOL.parents[1] / "data")


class Record:
    """The ensembles of the pool and what they are worth."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "usefulness.json").is_file():
            raise InputError(f"{folder} does not hold the pool (usefulness.json)")
        value = json.loads((folder / "usefulness.json").read_text())
        self.pool: tuple[str, ...] = tuple(value["pool"])
        self.ensembles: dict[str, Any] = value["ensembles"]
        self.arrays = np.load(folder / "scores.npz")
        # One ensemble may be listed under several names: its repeats belong together.
        self.repeats: dict[tuple[int, ...], list[Any]] = {}
        for entry in self.ensembles.values():
            rows = tuple(sorted(entry["members"]))
            self.repeats.setdefault(rows, []).extend(entry["repeats"])

    def scores(self, space: str) -> PoolScores:
        masks = self.arrays[f"{space}:masks"]
        directed = self.arrays[f"{space}:directed"].copy()
        np.fill_diagonal(directed, np.nan)
        return PoolScores(
            self.pool,
            self.arrays[f"{space}:density"],
            np.unpackbits(masks, axis=1).sum(axis=1) / N_REAL,
            masks,
            directed,
            k=5,
            n_real=N_REAL,
            counts=np.full(len(self.pool), 2000),
        )

    def several(self) -> list[tuple[int, ...]]:
        """Ensembles of two members or more."""
        return [rows for rows in self.repeats if len(rows) >= 2]

    def names(self, rows: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.pool[row] for row in rows)

    def rows(self, members: Sequence[str]) -> tuple[int, ...]:
        return tuple(sorted(self.pool.index(name) for name in members))

    def worth(self, rows: tuple[int, ...]) -> float:
        return float(np.mean([repeat["test"]["auc"] for repeat in self.repeats[rows]]))


def correlations(record: Record) -> dict[str, dict[str, Any]]:
    """Rank correlation of every form with the test AUC, and of one repeat's validation."""
    worth = [record.worth(rows) for rows in record.several()]
    several = [record.names(rows) for rows in record.several()]
    table = {
        space: {
            name: asdict(rank_correlation(values, worth))
            for name, values in score_values(record.scores(space), several).items()
        }
        for space in SPACES
    }
    table["validation"] = {}
    twice = [rows for rows in record.several() if len(record.repeats[rows]) > 1]
    # The first repeat is correlated with the others: a repeat shares its luck with itself.
    rest = [np.mean([r["test"]["auc"] for r in record.repeats[rows][1:]]) for rows in twice]
    for name, sign in (("auc", 1), ("loss", -1)):
        first = [sign * record.repeats[rows][0]["val"][name] for rows in twice]
        table["validation"][name] = asdict(rank_correlation(first, rest))
    return table


def overlap_inside(record: Record, folder: Path) -> dict[str, dict[str, Any]]:
    """Overlap that counts only what is real: d of the images that lie inside balls of real ones.

    Of 1,000 medical features a member; the two directions averaged, then all pairs of an ensemble.
    """
    import torch

    arrays = np.load(folder / "features.npz")
    real, *members = (
        torch.from_numpy(points.astype(np.float32) * arrays["scale"])
        for points in (arrays["real"], *arrays["members"])
    )
    size, k = len(members), 5

    def radii(points: torch.Tensor) -> torch.Tensor:
        return torch.cdist(points, points).kthvalue(k + 1, 1).values

    around_real = radii(real)
    kept = [points[(torch.cdist(points, real) < around_real).any(1)] for points in members]
    own = [radii(points) for points in kept]
    directed = np.zeros((size, size))
    for g, h in itertools.permutations(range(size), 2):
        hits = torch.cdist(kept[h], kept[g]) < own[g]
        density, coverage = (
            float(hits.sum()) / (k * len(kept[h])),
            float(hits.any(0).float().mean()),
        )
        directed[g, h] = harmonic_mean(density, coverage)
    pair = (directed + directed.T) / 2
    several, capped = record.several(), CappedIntraD(record.scores("medical-joint"))
    overlap = np.array(
        [pair[np.ix_(rows, rows)].sum() / (len(rows) * (len(rows) - 1)) for rows in several]
    )
    intra = np.array([capped(record.names(rows)) for rows in several])
    worth = [record.worth(rows) for rows in several]
    forms = {"-overlap inside": -overlap, "capped Intra-d - overlap inside": intra - overlap}
    return {name: asdict(rank_correlation(each, worth)) for name, each in forms.items()}


def picks(record: Record) -> list[dict[str, Any]]:
    """What each rule picks and what that is worth."""
    found = []
    for name in ("all", "last"):
        found.append(_pick(record, name, tuple(sorted(record.ensembles[name]["members"]))))
    for space in SPACES:
        for rule in RECORDED:
            wanted = f"{space}:{rule}"
            rows = [
                tuple(sorted(entry["members"]))
                for names, entry in record.ensembles.items()
                if wanted in names.rstrip("*").split("|")
            ]
            if rows:
                found.append(_pick(record, wanted, rows[0]))
        best = choose_unvalidated(candidates(record, space), "no labels")
        found.append(_pick(record, f"{space}:capped Intra-d", record.rows(best.chosen.members)))
    return found


def _pick(record: Record, rule: str, rows: tuple[int, ...]) -> dict[str, Any]:
    return {"rule": rule, "members": len(rows), "worth": record.worth(rows)}


def candidates(record: Record, space: str, most_members: int = 30) -> list[Candidate]:
    """The ensembles of known worth, of at most half the pool."""
    capped = CappedIntraD(record.scores(space))
    listed = []
    for rows in record.several():
        if len(rows) <= most_members:
            members = record.names(rows)
            listed.append(Candidate(members, capped(members), ("known",)))
    return listed


def probe_of(record: Record, folder: Path, data: Path, space: str) -> LinearProbe:
    """Linear probes in medical features (1,000 images per member) or random ones (150)."""
    if space.startswith("medical"):
        arrays = np.load(folder / "features.npz")
        read = {name: arrays[name] * arrays["scale"] for name in ("real", "val", "members")}
        labels = {name: arrays[f"{name}_labels"] for name in ("real", "val")}
        labels["members"] = arrays["labels"]
    else:
        options = {"accept_checksum": "any"}
        dataset = load_dataset("pneumoniamnist", root=data, image_size=32, options=options)
        extractor = embedding.make_extractor("random", dataset=dataset, seed=0)
        pictures = np.load(folder / "images.npz")
        read = {
            name: extractor(images.reshape(-1, 32, 32))
            for name, images in (
                ("real", dataset.train.images),
                ("val", dataset.val.images),
                ("members", pictures["images"]),
            )
        }
        read["members"] = read["members"].reshape(len(record.pool), -1, extractor.dim)
        labels = {"real": dataset.train.labels, "val": dataset.val.labels}
        labels["members"] = pictures["labels"]
    real, val = (LabelledFeatures(read[n], labels[n].astype(np.int64)) for n in ("real", "val"))
    members = zip(record.pool, read["members"], labels["members"].astype(np.int64), strict=True)
    return LinearProbe(real, val, {name: LabelledFeatures(x, y) for name, x, y in members}, 2)


def probes(record: Record, probe: LinearProbe, space: str) -> dict[str, Any]:
    """How one probe an ensemble ranks them, alone and beside capped Intra-d, and what it picks."""
    capped = CappedIntraD(record.scores(space))
    # Pairs of 150 images per member would be judged by their small number.
    several = [rows for rows in record.several() if len(rows) >= 5]
    members = [record.names(rows) for rows in several]
    begin = time.process_time()
    found = probe([ValidationTrial(Strategy("probe", each), 0) for each in members])
    seconds = (time.process_time() - begin) / len(members)
    ranks = {
        "auc": rankdata([each.auc for each in found]),
        "-loss": rankdata([-each.loss for each in found]),
        "capped Intra-d": rankdata([capped(each) for each in members]),
    }
    ranks["both"] = (ranks["auc"] + ranks["-loss"]) / 2
    ranks["both + capped Intra-d"] = ranks["both"] + ranks["capped Intra-d"]
    ranks["-loss + capped Intra-d"] = ranks["-loss"] + ranks["capped Intra-d"]
    worth = [record.worth(rows) for rows in several]
    mixes = _mixes(np.array([ranks[n] for n in ("auc", "-loss", "capped Intra-d")]), several, worth)
    # Grown ensembles are not among the known ones: no greedy steps here.
    listed = [c for c in candidates(record, space) if len(c.members) >= 5]
    choice = choose_validated(listed, record.scores(space), probe, seed=0, greedy_steps=0)
    rows = record.rows(choice.chosen.members)
    finalists = [record.worth(record.rows(each.candidate.members)) for each in choice.ranking]
    return {
        **_pick(record, f"{space}:validated", rows),
        "reason": choice.reason,
        "trained": choice.trained,
        "cpu_seconds_per_probe": seconds,
        "finalists_worth": finalists,
        "correlations": {name: asdict(rank_correlation(r, worth)) for name, r in ranks.items()},
        "mixes": mixes,
    }


def _mixes(
    ranks: np.ndarray, several: Sequence[Sequence[int]], worth: Sequence[float]
) -> dict[str, float]:
    """Mean worth of what each mix of ranks puts first in 300 draws of 30 of the ensembles.

    All of at most half the pool may be drawn, as those that the rule may take.
    """
    sizes = np.array([len(rows) for rows in several])
    allowed, rng = np.flatnonzero(sizes <= 30), np.random.default_rng(0)
    draws = [rng.choice(allowed, 30, replace=False) for _ in range(300)]
    found = {}
    for name, weights in MIXES.items():
        merit = np.array(weights) @ np.vstack([ranks, rankdata(sizes)])
        found[name] = float(np.mean([worth[rows[np.argmax(merit[rows])]] for rows in draws]))
    return found


def phantom_modes(seeds: int) -> list[dict[str, Any]]:
    """Rank correlation of both forms of Intra-d with the share of a phantom's modes covered.

    Of each seed 24 generators that reach one to five of the twelve modes, 600 images each, and 150
    random ensembles of two to eight of them, in the features of an untrained network.
    """
    from ensgan import metrics
    from ensgan.data import phantom
    from ensgan.search import Evaluator

    options = {"n_train": 600, "n_val": 60, "n_test": 60}
    real = load_dataset("phantom", image_size=32, options=options, seed=0)
    extractor = embedding.make_extractor("random", dataset=real, seed=0)
    reference = embedding.embed(real.train.images, extractor).features
    share = np.array([mode.share for mode in phantom.MODES])
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        covered, features = [], []
        for _ in range(24):
            modes = np.sort(rng.choice(len(share), int(rng.integers(1, 6)), replace=False))
            covered.append(set(modes.tolist()))
            drawn = rng.choice(modes, 600, p=share[modes] / share[modes].sum())
            features.append(embedding.embed(phantom.draw(drawn, 32, rng), extractor).features)
        scores = metrics.score_pool(reference, features, [f"G{i}@1" for i in range(24)])
        sizes = rng.integers(2, 9, 150)
        members = [sorted(rng.choice(24, int(n), replace=False).tolist()) for n in sizes]
        reached = [set[int]().union(*(covered[i] for i in each)) for each in members]
        truths = {
            "number of modes": [float(len(each)) for each in reached],
            "modes by frequency": [float(share[list(each)].sum()) for each in reached],
        }
        for form in ("capped", "paper"):
            evaluator = Evaluator(scores, objectives=form)
            values = [evaluator.evaluate(each)[0] for each in members]
            for truth, numbers in truths.items():
                rho = asdict(rank_correlation(values, numbers))
                found.append({"seed": seed, "form": form, "truth": truth, **rho})
    return found


def run(args: argparse.Namespace) -> dict[str, Any]:
    record = Record(args.pool)
    result: dict[str, Any] = {
        "ensembles": len(record.several()),
        "correlations": correlations(record),
        "picks": picks(record),
        "probes": [
            probes(record, probe_of(record, args.pool, args.data, space), space)
            for space, file in (("medical-joint", "features.npz"), ("random-joint", "images.npz"))
            if (args.pool / file).is_file()
        ],
    }
    if args.overlap:
        result["correlations"]["inside"] = overlap_inside(record, args.pool)
    if args.modes:
        result["phantom_modes"] = phantom_modes(args.modes)
    return result


def show(result: dict[str, Any]) -> None:
    print(f"rank correlation with test AUC over {result['ensembles']} ensembles")
    for space, table in result["correlations"].items():
        for name, found in table.items():
            print(f"  {space:14} {name:26} {found['rho']:+.2f} [{found['low']:+.2f}, "
                  f"{found['high']:+.2f}]")  # fmt: skip
    for found in result.get("phantom_modes", []):
        about = f"phantom {found['seed']}: {found['form']:6} {found['truth']:18}"
        print(f"  {about} {found['rho']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
    print("what a rule picks: members, test AUC")
    for pick in result["picks"] + result["probes"]:
        print(f"  {pick['rule']:42} {pick['members']:3}  {pick['worth']:.4f}")
    for found in result["probes"]:
        print(f"{found['rule']}: {found['reason']}")
        print(f"  {found['trained']} probes, {found['cpu_seconds_per_probe']:.3f} s each")
        for name, rho in found["correlations"].items():
            print(f"  {name:26} {rho['rho']:+.2f} [{rho['low']:+.2f}, {rho['high']:+.2f}]")
        for name, mean in found["mixes"].items():
            print(f"  first by {name:27} {mean:.4f}")
