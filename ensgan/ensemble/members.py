"""Kinds of members: what turns labels into images. A new kind is one class, one registry line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ensgan.ensemble.draw import derived_seed
from ensgan.ensemble.weights import TensorInfo
from ensgan.errors import InputError, IntegrityError, unknown_name
from ensgan.types import ImageShape, Int64Array, UInt8Array

if TYPE_CHECKING:
    from ensgan.ensemble.manifest import Manifest, MemberEntry
    from ensgan.zoo import Generator

_INVALID = (InputError, TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError)
"""What building from a row with nonsensical values may raise."""
_DTYPES = {"torch.float32": "F32", "torch.int64": "I64", "torch.uint8": "U8", "torch.bool": "BOOL"}


class Member(Protocol):
    """Makes images. Image j of a seed depends on the seed, j, its turn and its label only."""

    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """Images start … start+n-1 for ``labels`` [n]: uint8 [n,H,W] or [n,H,W,C].

        Args:
            turns: int64 [n], how many images of its class the member has made before each.
            replacement: whether an image may be given out twice where images run out.

        Raises:
            InputError: images run out.
        """


class MemberKind(Protocol):
    """How members of a kind are stored: always tensors in one safetensors file."""

    def check(self, entry: MemberEntry, manifest: Manifest) -> None:
        """Compare the tensors that the manifest promises with what the kind needs.

        Raises:
            IntegrityError: they differ.
        """

    def open(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> Member:
        """The member from the verified content of its file."""


class GanKind:
    """A generator: the GAN's row in the manifest, the state of its generator in the file."""

    def check(self, entry: MemberEntry, manifest: Manifest) -> None:
        """See :meth:`MemberKind.check`; the row is built without memory to compare shapes."""
        if entry.gan is None:
            raise IntegrityError(f"member {entry.name} has no GAN row in the manifest")
        row = json.dumps(entry.gan, sort_keys=True)
        wanted = _wanted_tensors(row, manifest.shape, len(manifest.class_names))
        stored = entry.tensor_infos()
        if wanted != stored:
            names = wanted.keys() | stored.keys()
            odd = sorted(name for name in names if wanted.get(name) != stored.get(name))
            raise IntegrityError(
                f"the weights of {entry.name} do not fit its GAN: {len(odd)} tensors are missing, "
                f"extra or of another shape, the first is '{odd[0][:80]}'"
            )

    def open(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> Member:
        """See :meth:`MemberKind.open`."""
        from safetensors.torch import load

        from ensgan.zoo.build import placed

        generator = _build(entry.gan, manifest.shape, len(manifest.class_names))
        # An update keeps the versions of torch's modules, which safetensors does not store.
        state = generator.state_dict()
        state.update(load(content))
        generator.load_state_dict(state)
        return GanMember(placed(generator, "cpu").eval().requires_grad_(False))


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
        state = _build(json.loads(row), shape, num_classes).state_dict()
    return {
        key: TensorInfo(_DTYPES.get(str(tensor.dtype), "?"), tuple(tensor.shape))
        for key, tensor in state.items()
    }


class GanMember:
    """A loaded generator in eval mode."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """See :meth:`Member.images`; a generator never runs out of images."""
        from ensgan.zoo import sample

        del turns, replacement
        return sample(self._generator, labels, seed=seed, start=start)


class BankKind:
    """A bank of finished images, for generators that ensgan cannot run: drawn without replacement.

    The file holds ``images`` (U8) and ``labels`` (I64).
    """

    def check(self, entry: MemberEntry, manifest: Manifest) -> None:
        """See :meth:`MemberKind.check`."""
        infos = entry.tensor_infos()
        n = infos["labels"].shape[0] if "labels" in infos and infos["labels"].shape else 0
        wanted = {"images": ("U8", manifest.shape.array_shape(n)), "labels": ("I64", (n,))}
        if n == 0 or {name: (info.dtype, info.shape) for name, info in infos.items()} != wanted:
            raise IntegrityError(
                f"the sample bank {entry.name} must hold 'images' U8 of the ensemble's size and "
                "'labels' I64, and at least one image"
            )

    def open(self, entry: MemberEntry, manifest: Manifest, content: bytes) -> Member:
        """See :meth:`MemberKind.open`."""
        from safetensors.numpy import load

        arrays = load(content)
        return BankMember(entry.name, arrays["images"], arrays["labels"])


class BankMember:
    """Images by class, given out in an order that the seed decides, each of them once."""

    def __init__(self, name: str, images: UInt8Array, labels: Int64Array) -> None:
        self._name = name
        self._images = images
        self._by_class = {int(label): np.flatnonzero(labels == label) for label in set(labels)}

    def images(
        self, labels: Int64Array, *, seed: int, start: int, turns: Int64Array, replacement: bool
    ) -> UInt8Array:
        """See :meth:`Member.images`; with replacement a class begins anew once all were shown.

        Raises:
            InputError: the bank has no image of a class, or too few of it.
        """
        del start
        chosen = np.empty(len(labels), np.int64)
        for label in sorted(set(labels.tolist())):
            wanted = labels == label
            own = self._own(label, int(turns[wanted].max()) + 1, replacement)
            rounds = turns[wanted] // len(own)
            picked = np.empty(len(rounds), np.int64)
            for number in set(rounds.tolist()):
                order = np.random.Generator(
                    np.random.Philox(key=derived_seed(seed, "bank", label, number))
                ).permutation(own)
                this_round = rounds == number
                picked[this_round] = order[turns[wanted][this_round] % len(own)]
            chosen[wanted] = picked
        return self._images[chosen]

    def _own(self, label: int, asked: int, replacement: bool) -> Int64Array:
        """Places of the images of a class, of which ``asked`` are to be given out."""
        own = self._by_class.get(label)
        if own is None:
            raise InputError(
                f"the sample bank {self._name} has no image of class {label}: ask for other labels"
            )
        if asked > len(own) and not replacement:
            raise InputError(
                f"the sample bank {self._name} holds {len(own)} images of class {label} and "
                f"{asked} of them are asked for: ask for fewer images, or allow repeats "
                "(--replacement, or replacement=True)"
            )
        return own


KINDS: Mapping[str, MemberKind] = {"gan": GanKind(), "bank": BankKind()}


def kind_named(name: str) -> MemberKind:
    """The member kind of that name.

    Raises:
        IntegrityError: there is none.
    """
    if name not in KINDS:
        raise IntegrityError(unknown_name("member kind", name, KINDS))
    return KINDS[name]
