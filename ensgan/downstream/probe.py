"""Linear probes: what images teach, judged on their features in hundredths of a second.

A linear classifier of embedded images ranks ensembles, beside capped Intra-d, as well as a small
network that takes 300 times as long (docs/results/usefulness.md), and names classes as surely.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ensgan.downstream.statistics import classification_metrics
from ensgan.downstream.strategy import Strategy
from ensgan.downstream.validated import ValidationResult, ValidationTrial
from ensgan.errors import InputError
from ensgan.types import Float32Array, Float64Array, Int64Array

AT_CHANCE = 0.05
"""Shares so near to chance are no better than that: two standard errors of 400 images."""
TELLS = 0.1
"""How far above chance the classifier must be on real images for its word to count; where one
class has nearly all images and chance is above a half, so much of what is left, twice."""
FAR, SPREADS = 0.15, 3.0
"""Far below the others: so much below their median, and so many (robust) standard deviations."""


@dataclass(frozen=True)
class LabelConsistency:
    """What a classifier trained on real images thinks of generated ones; shares in [0, 1].

    Attributes:
        real, real_chance: of the real validation split, as a scale.
        members: by name, the share of a member's images that are given the class asked for.
        chance: by name, the share that labels without any bearing on the images would reach.
    """

    real: float
    real_chance: float
    members: Mapping[str, float]
    chance: Mapping[str, float]

    @property
    def tells(self) -> bool:
        """Whether the classifier can tell the classes of real images; if not, ignore its shares."""
        return self.real >= self.real_chance + TELLS * min(1.0, 2 * (1 - self.real_chance))

    @property
    def median(self) -> float:
        """The median of the members' shares."""
        return float(np.median(list(self.members.values())))

    def doubtful(self) -> tuple[str, ...]:
        """Members whose labels do not fit their images, in pool order.

        These are far below the median, or far below chance, or at chance while at least two
        others are far above them: where half a pool swaps its labels the median tells nothing.
        Empty where the classifier cannot tell the classes of real images.
        """
        if not self.tells:
            return ()
        shares = np.array(list(self.members.values()))
        spread = 1.4826 * float(np.median(np.abs(shares - self.median)))
        low = self.median - max(FAR, SPREADS * spread)
        names = []
        for name, share in self.members.items():
            chance = self.chance[name]
            behind = share <= chance + AT_CHANCE and np.count_nonzero(shares >= share + FAR) >= 2
            if share < low or share < chance - FAR or behind:
                names.append(name)
        return tuple(names)


IMAGES = 4000
"""Images that one probe is trained on, of all its members together."""
DIMENSIONS = 256
"""Wider features are projected on so many principal components of the real ones."""
STRENGTH = 0.1
"""Inverse of the L2 penalty, as scikit-learn's ``C``, on standardised features."""
STEPS = 200
"""Most iterations of L-BFGS."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Embedded images: float32 [n, dim], and their classes, int64 [n]."""

    features: Float32Array
    labels: Int64Array

    def part(self, most: int) -> LabelledFeatures:
        """At most so many rows, evenly spread: banks may be in the order of their classes."""
        rows = np.linspace(0, len(self.labels) - 1, min(most, len(self.labels))).astype(np.int64)
        return LabelledFeatures(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class LinearProbe:
    """Trains linear classifiers on members' features and validates them on real ones.

    It can be the ``train_and_validate`` of :func:`ensgan.downstream.choose_validated`.

    Attributes:
        train, val: real features of the training and the validation split; ``val`` holds every
            class. The test split has no part.
        members: by name, those of generated images.
        classes: number of classes.
    """

    train: LabelledFeatures
    val: LabelledFeatures
    members: Mapping[str, LabelledFeatures]
    classes: int

    def __post_init__(self) -> None:
        missing = set(range(self.classes)) - set(self.val.labels.tolist())
        if self.classes < 2 or missing:
            raise InputError(
                f"a probe needs validation images of two classes or more, not {self.classes} with "
                f"{len(missing)} missing"
            )

    def __call__(
        self, trials: Sequence[ValidationTrial], on_done: Callable[[], None] = lambda: None
    ) -> list[ValidationResult]:
        """One result per trial; trials of equal members and seed are equal.

        Seed 0 is judged by the validation split as it is; every other seed draws other images
        where members have more, and one bootstrap of each class of the split, the same for all
        ensembles. Without the bootstrap, all seeds would agree on small banks, whatever the split.
        ``on_done`` is called after each.
        """
        return [self._validate(trial, on_done) for trial in trials]

    def _validate(self, trial: ValidationTrial, on_done: Callable[[], None]) -> ValidationResult:
        drawn = self._drawn(trial.strategy, trial.seed)
        rows = self._judges(trial.seed)
        labels = self._val.labels[rows]
        chances = _Linear.fit(drawn, self.classes)(self._val.features[rows])
        of_label = chances[np.arange(len(chances)), labels]
        # As the classifiers of the evaluation: classes weigh alike.
        share = np.bincount(labels, minlength=self.classes)[labels]
        loss = -float(np.average(np.log(np.clip(of_label, 1e-7, 1.0)), weights=1 / share))
        on_done()
        return ValidationResult(classification_metrics(labels, chances)["auc"], loss)

    def _judges(self, seed: int) -> Int64Array:
        """Rows of the validation split that judge a seed."""
        everyone = np.arange(len(self.val.labels))
        if seed == 0:
            return everyone
        rng = np.random.default_rng([seed, len(everyone)])
        classes = [np.flatnonzero(self.val.labels == label) for label in range(self.classes)]
        return np.concatenate([rng.choice(rows, len(rows)) for rows in classes])

    def consistency(self) -> LabelConsistency:
        """Which share of each member's images a probe of real ones gives the class asked for."""
        named = _Linear.fit(_projected(self.train.part(5 * IMAGES), self._basis), self.classes)

        def agreement(images: LabelledFeatures) -> tuple[float, float]:
            called = named(images.features).argmax(1)
            shares = [
                np.bincount(each, minlength=self.classes) / len(called)
                for each in (called, images.labels)
            ]
            return float(np.mean(called == images.labels)), float(shares[0] @ shares[1])

        agreements = {name: agreement(images) for name, images in self._members.items()}
        return LabelConsistency(
            *agreement(self._val),
            {name: share for name, (share, _) in agreements.items()},
            {name: chance for name, (_, chance) in agreements.items()},
        )

    def _drawn(self, strategy: Strategy, seed: int) -> LabelledFeatures:
        """Equal numbers of every member's images, without one twice."""
        rng = np.random.default_rng(seed)
        per_member = -(-IMAGES // len(strategy.members))
        parts = []
        for name in strategy.members:
            member = self._members[name]
            rows = rng.permutation(len(member.labels))[:per_member]
            parts.append((member.features[rows], member.labels[rows]))
        return LabelledFeatures(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    @cached_property
    def _basis(self) -> Float32Array | None:
        """Principal components of the real features, [dim, DIMENSIONS]; None for narrow ones."""
        rows = self.train.part(IMAGES).features
        if rows.shape[1] <= DIMENSIONS:
            return None
        centred = (rows - rows.mean(0)).astype(np.float64)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        basis: Float32Array = vectors[:, ::-1][:, :DIMENSIONS].astype(np.float32)
        return basis

    @cached_property
    def _val(self) -> LabelledFeatures:
        return _projected(self.val, self._basis)

    @cached_property
    def _members(self) -> dict[str, LabelledFeatures]:
        return {
            name: _projected(images.part(IMAGES // 2), self._basis)
            for name, images in self.members.items()
        }


def _projected(images: LabelledFeatures, basis: Float32Array | None) -> LabelledFeatures:
    features = images.features if basis is None else images.features @ basis
    return LabelledFeatures(np.ascontiguousarray(features), images.labels)


@dataclass(frozen=True)
class _Linear:
    """A logistic regression on standardised features; it knows the classes it has seen."""

    mean: Float32Array
    scale: Float32Array
    slopes: Float64Array
    offsets: Float64Array
    seen: Int64Array
    classes: int

    @classmethod
    def fit(cls, images: LabelledFeatures, classes: int) -> _Linear:
        """Train; classes weigh alike."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        mean, scale = images.features.mean(0), images.features.std(0) + np.float32(1e-6)
        seen = np.unique(images.labels)
        if len(seen) == 1:  # nothing to separate
            nothing = np.zeros((1, len(mean)))
            return cls(mean, scale, nothing, np.zeros(1), seen, classes)
        model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=STEPS)
        # For products this small the threads of BLAS cost more than they save: on busy cores they
        # wait for one another, and a fit takes seven times as long.
        with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
            # A probe that has nearly converged ranks as well; a warning from each would be noise.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((images.features - mean) / scale, images.labels)
        slopes, offsets = model.coef_, model.intercept_
        if len(seen) == 2:  # scikit-learn keeps the second class alone
            slopes, offsets = np.vstack([-slopes, slopes]) / 2, np.hstack([-offsets, offsets]) / 2
        return cls(mean, scale, slopes, offsets, seen, classes)

    def __call__(self, features: Float32Array) -> Float64Array:
        """Chances of all classes, float64 [n, classes]."""
        logits = ((features - self.mean) / self.scale) @ self.slopes.T + self.offsets
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances = np.zeros((len(features), self.classes))
        chances[:, self.seen] = powers / powers.sum(axis=1, keepdims=True)
        return chances
