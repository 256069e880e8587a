"""Member weights that adapt, judged where the truth is known: perfect and harmful members.

Members draw phantoms anew for every epoch. Of the `mixed` pool two members know all modes, two know
four, one has its labels swapped, one makes noise; of the `partial` pool each knows other four
modes. Rules start from equal weights: `static` keeps them, `dynamic` is the shipped one, `easy` and
`hard` are multiplicative weights on a member's own training loss (Arora et al. 2012; the latter as
group DRO does, Sagawa et al. 2020).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensgan.data import load_dataset, phantom
from ensgan.downstream import ClassifierSettings, MemoryBank, Strategy, classifier, run_repeat
from ensgan.downstream.drawing import FLOOR, STEP, MemberFeedback
from ensgan.downstream.pool import Maker
from ensgan.downstream.statistics import mean_interval, paired_t_test
from ensgan.embedding.fit import Batch
from ensgan.types import Int64Array, UInt8Array

LABELS = np.array([mode.label for mode in phantom.MODES])
SHARES = np.array([mode.share for mode in phantom.MODES])
SIZE = 32


class LossWeights(MemberFeedback):
    """Multiplicative weights on the mean loss of the images that a member gave in an epoch."""

    sign = -1.0

    def on_batch(self, features: Tensor, scores: Tensor, batch: Batch) -> None:
        assert batch.members is not None
        losses = functional.cross_entropy(scores, batch.labels, self._weights, reduction="none")
        if self._sums is None:
            self._sums = torch.zeros_like(self._counts)
        self._sums.index_add_(0, batch.members, losses)
        self._counts.index_add_(0, batch.members, torch.ones_like(losses))

    def on_validation(self, features: Tensor, scores: Tensor, labels: Tensor) -> None:
        assert self._sums is not None
        mean = (self._sums / self._counts.clamp(min=1)).double().cpu().numpy()
        value = self.sign * (mean - mean[self._counts.cpu().numpy() > 0].mean())
        moved = self.shares * np.exp(STEP * value)
        self.shares = (1 - FLOOR) * moved / moved.sum() + FLOOR / len(moved)
        self._sums.zero_()
        self._counts.zero_()


class HardFirst(LossWeights):
    """The same, towards members whose images are hard."""

    sign = 1.0


RULES: dict[str, type[MemberFeedback] | None] = {
    "static": None,
    "dynamic": MemberFeedback,
    "easy": LossWeights,
    "hard": HardFirst,
}


def maker(modes: Int64Array, change: Callable[[UInt8Array], UInt8Array], *, swap: bool) -> Maker:
    """A member that knows some modes."""

    def make(labels: Int64Array, seed: int) -> UInt8Array:
        rng = np.random.default_rng(seed)
        chosen = np.empty(len(labels), np.int64)
        for label in (0, 1):
            own = modes[LABELS[modes] == (1 - label if swap else label)]
            places = np.flatnonzero(labels == label)
            chosen[places] = rng.choice(own, len(places), p=SHARES[own] / SHARES[own].sum())
        return change(phantom.draw(chosen, SIZE, rng))

    return make


def same(images: UInt8Array) -> UInt8Array:
    return images


def noise(images: UInt8Array) -> UInt8Array:
    shuffled = np.random.default_rng(0).permuted(images.reshape(len(images), -1), axis=1)
    return shuffled.reshape(images.shape)


def pools() -> dict[str, dict[str, Maker]]:
    every = np.arange(len(LABELS))
    normal, opaque = np.flatnonzero(LABELS == 0), np.flatnonzero(LABELS == 1)
    four = [np.array([*normal[[i, i - 1]], *opaque[[i, i - 1]]]) for i in range(5)]
    four.append(np.array([normal[0], normal[2], opaque[5], opaque[6]]))
    return {
        "mixed": {
            "all-1": maker(every, same, swap=False),
            "all-2": maker(every, same, swap=False),
            "four-1": maker(four[0], same, swap=False),
            "four-2": maker(four[2], same, swap=False),
            "swapped": maker(every, same, swap=True),
            "noise": maker(every, noise, swap=False),
        },
        "partial": {f"four-{i}": maker(modes, same, swap=False) for i, modes in enumerate(four)},
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rules", default=",".join(RULES))
    parser.add_argument("--pools", default=",".join(pools()))


def run(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    options = {"n_train": 400, "n_val": 200, "n_test": 600}
    dataset = load_dataset("phantom", image_size=SIZE, options=options)
    settings = ClassifierSettings(
        epochs=args.epochs, width=8, batch=32, images_per_epoch=args.images
    )
    found = []
    for pool in args.pools.split(","):
        makers = pools()[pool]
        members, auc = tuple(makers), {}
        for rule in args.rules.split(","):
            strategy = Strategy(rule, members, kind="dynamic" if RULES[rule] else "synthetic")
            classifier.MemberFeedback = RULES[rule] or MemberFeedback  # type: ignore[misc]
            results = [
                run_repeat(
                    strategy,
                    repeat,
                    dataset=dataset,
                    bank=MemoryBank({}, makers),
                    settings=settings,
                    seed=0,
                )
                for repeat in range(args.repeats)
            ]
            auc[rule] = np.array([result.metrics["auc"] for result in results])
            weights = [result.final_weights for result in results if result.final_weights]
            found.append(
                {
                    "pool": pool,
                    "rule": rule,
                    "auc": auc[rule].tolist(),
                    "interval": mean_interval(auc[rule]),
                    "difference": float((auc[rule] - auc.get("static", auc[rule])).mean()),
                    "p": paired_t_test(auc[rule] - auc.get("static", auc[rule])),
                    "weights": dict(zip(members, np.mean(weights, 0), strict=True))
                    if weights
                    else None,
                }
            )
    return {"rules": found}


def show(result: dict[str, Any]) -> None:
    for row in result["rules"]:
        weights = row["weights"] or {}
        shown = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        p = "" if row["p"] is None else f" p {row['p']:.2g}"
        print(
            f"{row['pool']:8} {row['rule']:8} AUC {np.mean(row['auc']):.4f} ± "
            f"{np.std(row['auc'], ddof=1):.4f}  against static {row['difference']:+.4f}{p}  {shown}"
        )
