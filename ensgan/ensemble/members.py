"""Which member makes image i, and what each kind of member makes it from.

Every draw comes from a counter-based generator (Philox; Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", 2011) at position i, so image i of a seed is the same image in any request.
A new kind of member is one class and one registry line.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from ensgan.ensemble.manifest import Manifest, MemberEntry
from ensgan.ensemble.weights import TensorInfo
from ensgan.errors import InputError, IntegrityError, unknown_name
from ensgan.files import parse_json
from ensgan.types import ImageShape, Int64Array, UInt8Array

if TYPE_CHECKING:
    from ensgan.zoo import Generator


class ImageRequest(BaseModel):
    """What to make, as others ask for it; see :meth:`Ensemble.sample`."""

    model_config = ConfigDict(extra="forbid")

    n: int = Field(ge=1, description="How many images.")
    labels: list[int] | None = Field(
        None,
        description="The class of each image, n of them; drawn by the training shares when null.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Equal seeds give equal images.")
    replacement: bool = Field(
        False, description="Whether a sample bank that runs out may repeat its images."
    )


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        members: int64 [n], index of the member of each image.
        ranks: int64 [n], how many images of its member come before it.
        turns: int64 [n], how many images of its member and class come before it.
        labels: int64 [n], classes.
        made: int64 [M,K], images of each member and class up to the end of this plan.
    """

    members: Int64Array
    ranks: Int64Array
    turns: Int64Array
    labels: Int64Array
    made: Int64Array


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2⁶³) from parts, the same in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def uniforms(seed: int, start: int, n: int) -> npt.NDArray[np.float64]:
    """Uniform draws start … start+n-1 of the stream of ``seed``, float64 [n] in [0, 1)."""
    stream = np.random.Philox(key=seed)
    stream.advance(start // 4)  # four 64-bit draws per counter step
    return np.random.Generator(stream).random(start % 4 + n)[start % 4 :]


def choose(shares: Sequence[float], draws: npt.NDArray[np.float64]) -> Int64Array:
    """Categories with these shares (sum 1) for uniform draws, int64 of the draws' shape."""
    edges = np.cumsum(np.asarray(shares, np.float64))
    # Divided, because the sum of the shares may round to a little less than a draw can be.
    chosen = np.searchsorted(edges / edges[-1], draws, side="right")
    return np.minimum(chosen, len(edges) - 1).astype(np.int64)


def make_plan(
    n: int,
    *,
    seed: int,
    weights: Sequence[float],
    class_shares: Sequence[float],
    labels: Int64Array | None = None,
    start: int = 0,
    made: Int64Array | None = None,
) -> Plan:
    """Plan images start … start+n-1 of a seed.

    Args:
        labels: int64 [n], or None to draw them by ``class_shares``.
        made: int64 [M,K], how many images of each member and class lie before ``start``.
    """
    members = choose(weights, uniforms(derived_seed(seed, "member"), start, n))
    if labels is None:
        labels = choose(class_shares, uniforms(derived_seed(seed, "label"), start, n))
    size = (len(weights), len(class_shares))
    before = np.zeros(size, np.int64) if made is None else made
    # One number for member and class together: how often it occurred before is the turn.
    cells = members * size[1] + labels
    turns = before.reshape(-1)[cells] + _occurrences(cells)
    ranks = before.sum(axis=1)[members] + _occurrences(members)
    counts = np.bincount(cells, minlength=size[0] * size[1]).astype(np.int64)
    return Plan(members, ranks, turns, labels, before + counts.reshape(size))


def _occurrences(values: Int64Array) -> Int64Array:
    """How often each value occurred before its place, int64 [n]."""
    # Sorted stably, equal values stand together in their first order: the turn is the distance from
    # where they begin.
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values)
    starts = np.cumsum(counts) - counts
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - starts[values[order]]
    return before


_INVALID = (InputError, TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError)
"""What building from a row with nonsensical values may raise."""
_DTYPES = {"torch.float32": "F32", "torch.int64": "I64", "torch.uint8": "U8", "torch.bool": "BOOL"}


class Member(ABC):
    """A kind of member: stored as tensors in one safetensors file, opened to make images."""

    @abstractmethod
    def __init__(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> None:
        """Open a member from the verified content of its file."""

    @staticmethod
    @abstractmethod
    def check(entry: MemberEntry, manifest: Manifest) -> None:
        """Compare the tensors that the manifest promises with what the kind needs.

        Raises:
            IntegrityError: they differ.
        """

    @abstractmethod
    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """Images start … start+n-1 for ``labels`` [n]: uint8 [n,H,W] or [n,H,W,C].

        Image j of a seed depends on the seed, j, its turn and its label only.

        Args:
            turns: int64 [n], how many images of its class the member has made before each.
            replacement: whether an image may be given out twice where images run out.

        Raises:
            InputError: images run out.
        """


class GanMember(Member):
    """A generator: the GAN's row in the manifest, the state of its generator in the file."""

    def __init__(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> None:
        """See :class:`Member`; the generator is in eval mode."""
        from safetensors.torch import load

        from ensgan.zoo.build import placed

        generator = _build(entry.gan, manifest.shape, len(manifest.class_names))
        # An update keeps the versions of torch's modules, which safetensors does not store.
        state = generator.state_dict()
        state.update(load(content))
        generator.load_state_dict(state)
        self._generator = placed(generator, "cpu").eval().requires_grad_(False)

    @staticmethod
    def check(entry: MemberEntry, manifest: Manifest) -> None:
        """See :meth:`Member.check`; the row is built without memory to compare shapes."""
        if entry.gan is None:
            raise IntegrityError(f"member {entry.name} has no GAN row in the manifest")
        row = json.dumps(entry.gan, sort_keys=True)
        wanted = _wanted_tensors(row, manifest.shape, len(manifest.class_names))
        names = wanted.keys() | entry.tensors.keys()
        odd = sorted(name for name in names if wanted.get(name) != entry.tensors.get(name))
        if odd:
            raise IntegrityError(
                f"the weights of {entry.name} do not fit its GAN: {len(odd)} tensors are missing, "
                f"extra or of another shape, the first is '{odd[0][:80]}'"
            )

    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """See :meth:`Member.images`; a generator never runs out of images."""
        from ensgan.zoo import sample

        return sample(self._generator, labels, seed=seed, start=start)


def _build(row: Any, shape: ImageShape, num_classes: int) -> Generator:
    from ensgan.zoo import GANSpec, build_generator

    try:
        return build_generator(GANSpec.from_json(row), shape, num_classes, seed=0)
    except _INVALID as error:
        reason = " ".join(str(error).split())[:300]
        name = str(row.get("name"))[:80] if isinstance(row, dict) else "a member"
        raise IntegrityError(f"the GAN row of {name} is not valid: {reason}") from error


@lru_cache(maxsize=64)
def _wanted_tensors(row: str, shape: ImageShape, num_classes: int) -> Mapping[str, TensorInfo]:
    """What the state of a row's generator holds; snapshots of a GAN share the answer.

    Built on torch's meta device, so that a row of absurd widths takes no memory.
    """
    import torch

    with torch.device("meta"):
        state = _build(parse_json(row, "a row of the zoo"), shape, num_classes).state_dict()
    return {
        key: TensorInfo(dtype=_DTYPES.get(str(tensor.dtype), "?"), shape=tuple(tensor.shape))
        for key, tensor in state.items()
    }


class BankMember(Member):
    """A bank of finished images, for generators that ensgan cannot run: drawn without replacement.

    The file holds ``images`` (U8) and ``labels`` (I64). The seed decides the order in which the
    images of a class are given out, each of them once.
    """

    def __init__(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> None:
        """See :class:`Member`."""
        from safetensors.numpy import load

        arrays = load(content)
        self._name, self._images, labels = entry.name, arrays["images"], arrays["labels"]
        self._by_class = {int(label): np.flatnonzero(labels == label) for label in set(labels)}

    @staticmethod
    def check(entry: MemberEntry, manifest: Manifest) -> None:
        """See :meth:`Member.check`."""
        labels = entry.tensors.get("labels")
        n = labels.shape[0] if labels is not None and labels.shape else 0
        wanted = {
            "images": TensorInfo(dtype="U8", shape=manifest.shape.array_shape(n)),
            "labels": TensorInfo(dtype="I64", shape=(n,)),
        }
        if n == 0 or entry.tensors != wanted:
            raise IntegrityError(
                f"the sample bank {entry.name} must hold 'images' U8 of the ensemble's size and "
                "'labels' I64, and at least one image"
            )

    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """See :meth:`Member.images`; with replacement a class begins anew once all were shown.

        Raises:
            InputError: the bank has no image of a class, or too few of it.
        """
        chosen = np.empty(len(labels), np.int64)
        for label in sorted(set(labels.tolist())):
            wanted = labels == label
            places = self._own(label, int(turns[wanted].max()) + 1, replacement)
            rounds = turns[wanted] // len(places)
            picked = np.empty(len(rounds), np.int64)
            # A round gives every image of the class once; each round has an order of its own.
            for number in set(rounds.tolist()):
                order = np.random.Generator(
                    np.random.Philox(key=derived_seed(seed, "bank", label, number))
                ).permutation(places)
                this_round = rounds == number
                picked[this_round] = order[turns[wanted][this_round] % len(places)]
            chosen[wanted] = picked
        return self._images[chosen]

    def _own(self, label: int, asked: int, replacement: bool) -> Int64Array:
        """Places of the images of a class, of which ``asked`` are to be given out."""
        places = self._by_class.get(label)
        if places is None:
            raise InputError(
                f"the sample bank {self._name} has no image of class {label}: ask for other labels"
            )
        if asked > len(places) and not replacement:
            raise InputError(
                f"the sample bank {self._name} holds {len(places)} images of class {label} and "
                f"{asked} of them are asked for: ask for fewer images, or allow repeats "
                "(--replacement, or replacement=True)"
            )
        return places


KINDS: Mapping[str, type[Member]] = {"gan": GanMember, "bank": BankMember}


def kind_named(name: str) -> type[Member]:
    """The member kind of that name.

    Raises:
        IntegrityError: there is none.
    """
    if name not in KINDS:
        raise IntegrityError(unknown_name("member kind", name, KINDS))
    return KINDS[name]
