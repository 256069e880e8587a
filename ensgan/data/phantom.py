"""Procedural chest phantoms: a small data set whose modes are known, made from a seed.

Each image is a schematic frontal chest radiograph (thorax, lungs, heart, spine, ribs, diaphragm)
with or without opacities. Twelve modes of unequal frequency differ in build, heart, exposure and
in the kind and place of the opacity, and every image knows its mode, so that a test can check
that coverage follows the share of modes a generator reaches. They are drawings, not patients.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ensgan.data.request import SPLITS, Option, Request, Source
from ensgan.inputs import require_memory
from ensgan.types import Dataset, Float32Array, Int64Array, Samples, UInt8Array, apportion

OPTIONS = (
    Option("n_train", int, 1200, "images in the training split", minimum=12, maximum=10**18),
    Option("n_val", int, 200, "images in the validation split", minimum=12, maximum=10**18),
    Option("n_test", int, 400, "images in the test split", minimum=12, maximum=10**18),
)

Number: TypeAlias = npt.NDArray[np.floating[Any]] | float

CLASS_NAMES = ("normal", "opacity")

_CHUNK = 256  # images drawn at once: the intermediate fields stay in the cache


@dataclass(frozen=True)
class Opacity:
    """A bright ellipse inside the lungs, in units of the half image.

    Attributes:
        x, y: centre; x to the image's right, y downward, both in −1…1.
        rx, ry: half-axes.
        strength: added brightness at the centre, 0…1.
        soft: width of the edge; small is a sharp border.
        texture: share of the strength that follows a random field (patchy, interstitial).
    """

    x: float
    y: float
    rx: float
    ry: float
    strength: float
    soft: float = 0.65
    texture: float = 0.0


@dataclass(frozen=True)
class Mode:
    """One kind of image: how frequent, which class, which build, exposure and opacities."""

    name: str
    label: int
    share: float
    width: float = 0.80
    top: float = -0.72
    base: float = 0.50
    heart: float = 0.30
    heart_side: float = 1.0
    gain: float = 1.0
    gamma: float = 1.0
    opacities: tuple[Opacity, ...] = ()


_NODULES = tuple(
    Opacity(x, y, 0.12, 0.12, 0.75, soft=0.35)
    for x, y in ((-0.48, -0.32), (-0.30, 0.12), (0.36, -0.42), (0.56, -0.02), (-0.52, 0.30))
)
_DIFFUSE = tuple(Opacity(x, 0.0, 0.36, 0.58, 0.62, soft=0.8, texture=0.7) for x in (-0.4, 0.42))
_LOWER = (Opacity(-0.42, 0.22, 0.32, 0.32, 0.85),)
_UPPER = (Opacity(0.40, -0.38, 0.28, 0.30, 0.72),)
_EFFUSION = (Opacity(0.50, 0.52, 0.42, 0.52, 0.80, soft=0.25),)
_WHITE_OUT = (Opacity(-0.44, 0.0, 0.50, 0.95, 0.85, soft=0.3),)
_CHILD = (Opacity(-0.28, -0.18, 0.24, 0.24, 0.90),)

MODES: tuple[Mode, ...] = (
    Mode("normal adult", 0, 0.18),
    Mode("normal child", 0, 0.12, width=0.62, top=-0.48, base=0.38, heart=0.30, gain=1.12),
    Mode("normal hyperinflated", 0, 0.07, width=0.70, top=-0.88, base=0.82, heart=0.20, gain=0.88),
    Mode("normal underexposed", 0, 0.06, width=0.90, gain=1.25, gamma=0.62, heart=0.36),
    Mode("normal dextrocardia", 0, 0.02, width=0.76, heart_side=-1.1, heart=0.37, gamma=1.4),
    Mode("right lower consolidation", 1, 0.16, 0.88, heart=0.26, gain=1.12, opacities=_LOWER),
    Mode("bilateral diffuse", 1, 0.12, width=0.84, heart=0.34, opacities=_DIFFUSE),
    Mode("left upper consolidation", 1, 0.10, width=0.72, gamma=1.3, opacities=_UPPER),
    Mode("left effusion", 1, 0.06, gamma=0.75, heart=0.33, opacities=_EFFUSION),
    Mode("multiple nodules", 1, 0.05, top=-0.82, gain=0.84, gamma=1.2, opacities=_NODULES),
    Mode("right white-out", 1, 0.04, heart_side=0.6, opacities=_WHITE_OUT),
    Mode(
        "child right upper consolidation",
        1,
        0.02,
        width=0.54,
        top=-0.40,
        base=0.42,
        heart=0.26,
        gain=1.3,
        gamma=0.72,
        opacities=_CHILD,
    ),
)


def load(request: Request) -> Dataset:
    """Draw the three splits; the same seed and options give the same bytes."""
    counts = [int(request.option(f"n_{split}")) for split in SPLITS]
    require_memory(sum(counts) * request.image_size**2, f"drawing {sum(counts):,} images")
    splits: dict[str, Samples] = {}
    modes: dict[str, Int64Array] = {}
    for index, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        rng = np.random.default_rng([request.seed, index])
        modes[split] = rng.permutation(allocate(count))
        images = draw(modes[split], request.image_size, rng)
        labels = np.array([mode.label for mode in MODES], np.int64)[modes[split]]
        splits[split] = Samples(images, labels)
    return Dataset(
        "phantom",
        splits["train"],
        splits["val"],
        splits["test"],
        CLASS_NAMES,
        licence="Apache-2.0 (drawn by ensgan, no patient data)",
        source=f"procedural, seed {request.seed}",
        modes=modes,
    )


def allocate(count: int) -> Int64Array:
    """Mode indices [count] in fixed order: shares by largest remainder, so none is left to luck."""
    counts = apportion(np.array([mode.share for mode in MODES]), count)
    return np.repeat(np.arange(len(MODES), dtype=np.int64), counts)


def draw(modes: Int64Array, size: int, rng: np.random.Generator) -> UInt8Array:
    """Draw one image for each mode index: uint8 [n,size,size]."""
    images = np.empty((len(modes), size, size), np.uint8)
    for start in range(0, len(modes), _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _draw_chunk(modes[part], size, rng)
    return images


class _Canvas:
    """The pixel grid moved, scaled and tilted for each image, and ellipses drawn on it."""

    def __init__(self, count: int, size: int, rng: np.random.Generator) -> None:
        axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
        self.rng, self.count = rng, count
        angle = self.jitter(0.05)
        shift_x, shift_y, scale = self.jitter(0.05), self.jitter(0.05), 1 + self.jitter(0.045)
        x, y = axis[None, None, :] - shift_x, axis[None, :, None] - shift_y
        self.x = ((x - angle * y) / scale).astype(np.float32)
        self.y = ((y + angle * x) / scale).astype(np.float32)

    def jitter(self, width: float) -> Float32Array:
        """Normal numbers [n,1,1], cut at two standard deviations."""
        values = np.clip(self.rng.standard_normal((self.count, 1, 1)), -2, 2) * width
        return values.astype(np.float32)

    def ellipse(
        self, x: Number, y: Number, rx: Number, ry: Number, soft: float, square: bool = False
    ) -> Float32Array:
        """1 inside, 0 outside, over a border of relative width ``soft`` (``square``: fuller)."""
        u, v = (self.x - x) / rx, (self.y - y) / ry
        u, v = u * u, v * v
        distance = np.sqrt(u * u + v * v) if square else u + v
        # d² of the ellipse changes twice as fast as d at the border.
        return _step(np.asarray((1 - distance) / (2 * soft), np.float32))

    def field(self, waves: int = 5) -> Float32Array:
        """A smooth random field [n,size,size] in about −1…1 (sum of random plane waves)."""
        total = np.zeros(self.x.shape, np.float32)
        for _ in range(waves):
            phase = self.rng.uniform(0, 2 * np.pi, (self.count, 1, 1)).astype(np.float32)
            kx, ky = self.rng.normal(0, 9, (2, self.count, 1, 1)).astype(np.float32)
            total += np.cos(kx * self.x + ky * self.y + phase)
        return total / np.float32(np.sqrt(waves))


def _draw_chunk(modes: Int64Array, size: int, rng: np.random.Generator) -> UInt8Array:
    canvas = _Canvas(len(modes), size, rng)
    width, top, base, heart, side, gain, gamma = _parameters(modes)
    width = width + canvas.jitter(0.02)
    middle, half = (top + base) / 2, (base - top) / 2
    lungs: Float32Array = np.zeros(canvas.x.shape, np.float32)
    for direction in (-1.0, 1.0):
        x = direction * (0.50 * width + canvas.jitter(0.01))
        ry = half * (1.05 if direction < 0 else 1.0) + canvas.jitter(0.02)
        # Lungs lean: narrow apices near the spine, wide bases.
        lean = x + direction * 0.12 * (canvas.y - middle)
        lung = canvas.ellipse(lean, middle, 0.38 * width, ry, 0.22, square=True)
        lungs = np.maximum(lungs, lung)
    dome = base + 0.12 * np.square(np.abs(canvas.x) - 0.45 * width) / width**2 - 0.03
    lungs *= _step((dome - canvas.y) / 0.12)
    heart_x, heart_y = side * (0.14 + 0.25 * (heart - 0.3)), base - 0.9 * heart
    size_of_heart = heart * (1 + canvas.jitter(0.06))
    # The heart leans away from the spine, its apex on the diaphragm.
    axis = side * 0.35 * (canvas.y - heart_y)
    shadow = canvas.ellipse(heart_x + axis, heart_y, size_of_heart, 1.1 * size_of_heart, 0.42)
    lungs *= 1 - 0.9 * shadow
    image = _thorax(canvas, width, lungs, shadow)
    image += _opacity(canvas, modes, lungs)
    exposure = gain * (1 + canvas.jitter(0.05))
    image = np.clip(image * exposure, 0, 1) ** (gamma * (1 + canvas.jitter(0.04)))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += 0.018 * noise + 0.014 * canvas.field()
    return np.asarray(np.clip(np.rint(255 * image), 0, 255), np.uint8)


def _parameters(modes: Int64Array) -> tuple[Float32Array, ...]:
    """Each number of the mode table, for the images' modes, as [n,1,1]."""
    names = ("width", "top", "base", "heart", "heart_side", "gain", "gamma")
    table = np.array([[getattr(mode, name) for name in names] for mode in MODES], np.float32)
    return tuple(column[:, None, None] for column in table[modes].T)


def _step(t: npt.NDArray[Any]) -> Float32Array:
    """A smooth step from 0 at −½ to 1 at ½."""
    t = np.clip(t + np.float32(0.5), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _thorax(
    canvas: _Canvas, width: Float32Array, lungs: Float32Array, shadow: Float32Array
) -> Float32Array:
    """Soft tissue, spine, ribs and clavicles with the lungs cut out."""
    x, y = canvas.x, canvas.y
    body = canvas.ellipse(0, 0.45, 1.22 * width, 1.5, 0.14, square=True)
    neck = canvas.ellipse(0, -0.95, 0.30, 0.45, 0.3)
    image = 0.04 + 0.50 * np.maximum(body, neck)
    image += 0.16 * _step((0.13 - np.abs(x + 0.02 * canvas.jitter(1.0))) / 0.10) * body
    image += 0.08 * shadow
    air = 0.40 + canvas.jitter(0.02)
    image -= air * lungs
    # Ribs fall away from the spine; phase and spacing differ from patient to patient.
    phase = canvas.jitter(0.9)
    ribs = np.cos((y - 0.35 * np.abs(x)) * (19 + canvas.jitter(0.7)) + phase)
    image += 0.055 * ribs * lungs
    clavicle = np.abs(y + 0.62 + 0.16 * np.abs(x)) < 0.05
    image += 0.07 * clavicle * (np.abs(x) > 0.1) * body
    return np.asarray(image, np.float32)


def _opacity(canvas: _Canvas, modes: Int64Array, lungs: Float32Array) -> Float32Array:
    """Brightness added by the opacities of each image's mode."""
    added = np.zeros(canvas.x.shape, np.float32)
    texture = canvas.field(7)
    strength = np.clip(0.85 + canvas.jitter(0.16), 0.55, 1.15)
    move_x, move_y, grow = canvas.jitter(0.05), canvas.jitter(0.05), 1 + canvas.jitter(0.1)
    for index in np.unique(modes):
        of_mode = modes == index
        if not MODES[index].opacities:
            continue
        part = copy(canvas)  # of these images alone
        part.x, part.y = canvas.x[of_mode], canvas.y[of_mode]
        for opacity in MODES[index].opacities:
            blob = part.ellipse(
                opacity.x + move_x[of_mode],
                opacity.y + move_y[of_mode],
                opacity.rx * grow[of_mode],
                opacity.ry * grow[of_mode],
                opacity.soft,
            )
            patchy = 1 - opacity.texture + opacity.texture * (0.5 + texture[of_mode])
            fill = opacity.strength * strength[of_mode] * blob * patchy
            added[of_mode] = np.maximum(added[of_mode], fill)
    return added * (0.5 * lungs + 0.02)


PHANTOM = Source(
    "phantom",
    "procedural grey chest phantoms, two classes, twelve known modes",
    load,
    OPTIONS,
    needs_root=False,
)
