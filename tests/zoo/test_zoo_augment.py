"""DiffAug and ADA against the oracles, and what training needs of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_cases import cases, close, double
from torch import Tensor

from ensgan.errors import InputError
from ensgan.zoo.augment import (
    ADA,
    Augmentation,
    DiffAugment,
    cut_out,
    jitter_brightness,
    jitter_contrast,
    jitter_saturation,
    translate,
)
from ensgan.zoo.parts import part_from_json
from ensgan.zoo.warp import MOVES, SYM6, affine_matrices, needed_margins, warp

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CHAIN = (
    "flip",
    "int_shift_x",
    "int_shift_y",
    "iso_scale",
    "pre_rotation_rad",
    "aniso_scale",
    "post_rotation_rad",
    "frac_shift_x",
    "frac_shift_y",
)
"""Parameters of a transformation as the oracle names them."""


def table_of(given: dict[str, float]) -> Tensor:
    """A transformation in the oracle's terms as the table of :data:`MOVES`."""
    defaults = {"iso_scale": 1.0, "aniso_scale": 1.0}
    value = {name: float(given.get(name, defaults.get(name, 0.0))) for name in CHAIN}
    rows = [
        value["flip"],
        -value["int_shift_x"],
        -value["int_shift_y"],
        value["pre_rotation_rad"],
        -math.log2(value["iso_scale"]),
        value["post_rotation_rad"],
        math.log2(value["aniso_scale"]),
        -value["frac_shift_x"],
        -value["frac_shift_y"],
    ]
    assert len(rows) == len(MOVES)
    return torch.tensor(rows)[:, None]


def chain_of(given: dict[str, float]) -> Tensor:
    """The same transformation as a chain of matrix products, float64 [3, 3]."""
    value = {name: float(given[name]) for name in CHAIN}

    def scaling(x: float, y: float) -> Tensor:
        return torch.tensor([[x, 0, 0], [0, y, 0], [0, 0, 1]], dtype=torch.float64)

    def translation(x: float, y: float) -> Tensor:
        return torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64)

    def rotation(angle: float) -> Tensor:
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)

    return (
        scaling(1 - 2 * value["flip"], 1)
        @ translation(-value["int_shift_x"], -value["int_shift_y"])
        @ scaling(1 / value["iso_scale"], 1 / value["iso_scale"])
        @ rotation(value["pre_rotation_rad"])
        @ scaling(1 / value["aniso_scale"], value["aniso_scale"])
        @ rotation(value["post_rotation_rad"])
        @ translation(-value["frac_shift_x"], -value["frac_shift_y"])
    )


def test_the_closed_form_is_the_chain_of_products() -> None:
    random = np.random.default_rng(4)
    for _ in range(20):
        given = {name: float(random.uniform(-2, 2)) for name in CHAIN}
        given |= {"flip": float(random.integers(2))}
        given |= {name: float(random.uniform(0.4, 2.5)) for name in ("iso_scale", "aniso_scale")}
        closed = affine_matrices(table_of(given).double())[0]
        torch.testing.assert_close(closed, chain_of(given)[:2], rtol=1e-6, atol=1e-6)
    still = affine_matrices(torch.zeros(len(MOVES), 3))
    assert torch.equal(still, torch.eye(3)[:2].expand(3, 2, 3))


def matrices(count: int, seed: int = 0, size: int = 32, probability: float = 1.0) -> Tensor:
    return ADA().matrices(count, size, size, torch.tensor(probability), seeded(seed))


# DiffAug ---------------------------------------------------------------------------------------


def test_colour_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "diffaug_color"):
        x, *draws = (double(case["inputs"][key]) for key in ("x", "u_b", "u_s", "u_c"))
        for jitter, draw in zip(
            (jitter_brightness, jitter_saturation, jitter_contrast), draws, strict=True
        ):
            x = jitter(x, draw)
        close(x, case["expected"]["y"])


def test_translation_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "diffaug_translation"):
        x, shift = double(case["inputs"]["x"]), case["inputs"]
        y = translate(x, torch.tensor([shift["t_row"]]), torch.tensor([shift["t_col"]]))
        close(y, case["expected"]["y"])


def test_cutout_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "diffaug_cutout"):
        x, centre = double(case["inputs"]["x"]), case["inputs"]
        rows, columns = torch.tensor([centre["offset_row"]]), torch.tensor([centre["offset_col"]])
        close(cut_out(x, rows, columns, 3, 4), case["expected"]["y"])


def blank_runs(blank: Tensor) -> set[int]:
    return set(blank.sum(dim=1).tolist())


def test_shifts_reach_two_pixels_at_32() -> None:
    images = DiffAugment(cutout=0.0).apply(torch.ones(400, 1, 32, 32), {}, seeded())
    blank = images[:, 0] == 0
    for lines in (blank.all(dim=1), blank.all(dim=2)):
        assert blank_runs(lines) == {0, 1, 2}
        assert not lines[:, 2:30].any()


def test_holes_are_half_the_size_and_centred_anywhere() -> None:
    images = DiffAugment(translation=0.0).apply(torch.ones(2000, 1, 32, 32), {}, seeded())
    hole = images[:, 0] == 0
    for axis in (1, 2):
        lines = hole.any(dim=axis)
        assert blank_runs(lines) == set(range(8, 17))
        starts = lines.to(torch.int8).argmax(dim=1)
        assert set(starts.tolist()) == set(range(25))  # centres 0…32, clipped at the left
    assert torch.equal(hole, hole.any(dim=2)[:, :, None] & hole.any(dim=1)[:, None, :])


# ADA: the transformation -----------------------------------------------------------------------


def test_the_filter_is_the_wavelet_of_six_vanishing_moments() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    shifts = [float((taps[2 * m :] * taps[: len(taps) - 2 * m]).sum()) for m in range(6)]
    assert shifts == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-11)
    index = torch.arange(len(taps), dtype=torch.float64)
    signs = 1 - 2 * (index % 2)
    assert [float((signs * index**j * taps).sum()) for j in range(6)] == pytest.approx(
        [0] * 6, abs=1e-6
    )
    assert float((signs * index**6 * taps).sum()) > 1


@pytest.mark.parametrize("margins", [None, (5, 7)])
def test_geometry_follows_the_oracle(oracles: Path, margins: tuple[int, int] | None) -> None:
    for case in cases(oracles, "extras", "ada_geometric"):
        inputs = dict(case["inputs"])
        x = torch.tensor(inputs.pop("x"))
        chain = affine_matrices(table_of(inputs))
        close(warp(x, chain, margins), case["expected"]["y"], 1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([16, 32]))
def test_more_reflection_than_needed_changes_nothing(seed: int, size: int) -> None:
    images = torch.randn(3, 2, size, size, generator=seeded(seed))
    chain = matrices(3, seed, size)
    assert max(needed_margins(chain, size, size)) < size
    close(warp(images, chain), warp(images, chain, (size - 1, size - 1)), 1e-4)


def test_only_changed_images_are_resampled() -> None:
    images = torch.randn(6, 1, 32, 32, generator=seeded())
    chain = matrices(6)
    chain[[1, 4]] = torch.eye(3)[:2]
    close(warp(images, chain), warp(images, chain, (31, 31)), 1e-4)
    assert torch.equal(warp(images, chain)[[1, 4]], images[[1, 4]])


def test_known_moves() -> None:
    images = torch.randn(1, 1, 16, 16, generator=seeded())

    def moved(flip: float = 0.0, right: float = 0.0, down: float = 0.0) -> Tensor:
        given = {"flip": flip, "int_shift_x": right, "int_shift_y": down}
        return warp(images, affine_matrices(table_of(given)))

    close(moved(right=3.0)[..., 3:], images[..., :-3], 1e-5)
    close(moved(right=3.0)[..., 0], images[..., 3], 1e-5)  # reflected at the border
    close(moved(down=2.0)[:, :, 2:], images[:, :, :-2], 1e-5)
    # The filter is not quite symmetric: mirroring is exact for smooth images only.
    images = torch.linspace(0, 3, 16).cos().expand(1, 1, 16, 16)
    close(moved(flip=1.0), images.flip(3), 0.02)


def test_draws_have_the_stated_probabilities_and_sizes() -> None:
    count, p = 40_000, 0.5
    off = {"integer_shift": 0.0, "scale": 0.0, "rotation": 0.0, "stretch": 0.0}

    def drawn(**amplitudes: float) -> Tensor:
        part = ADA(**({**off, "fractional_shift": 0.0} | amplitudes))
        return part.matrices(count, 32, 32, torch.tensor(p), seeded(1))

    flipped = drawn()[:, 0, 0] < 0
    assert float(flipped.float().mean()) == pytest.approx(p / 2, abs=0.01)
    shift = drawn(integer_shift=0.05)[:, 1, 2]
    assert set(shift.tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    fractional = drawn(fractional_shift=0.05)[:, 1, 2]
    moved = fractional != 0
    assert float(moved.float().mean()) == pytest.approx(p, abs=0.01)
    assert float(fractional[moved].std()) == pytest.approx(1.6, rel=0.02)
    zoom = drawn(scale=0.05)[:, 1, 1]
    assert float(zoom[zoom != 1].log2().std()) == pytest.approx(0.05, rel=0.02)
    stretch = drawn(stretch=0.05)
    close(stretch[:, 0, 0].abs() * stretch[:, 1, 1], torch.ones(count), 1e-5)
    sine = drawn(rotation=0.0083)[:, 1, 0]
    assert float((sine != 0).float().mean()) == pytest.approx(p, abs=0.01)  # of either rotation
    assert float(sine.abs().max()) <= 2 * 0.0083 * torch.pi


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_probability_decides(probability: float) -> None:
    part = ADA(start=probability)
    images = torch.randn(8, 1, 32, 32, generator=seeded())
    augmented = part.apply(images, part.initial_state(CPU), seeded())
    assert augmented.shape == images.shape
    same = (augmented == images).flatten(1).all(dim=1)
    assert bool(same.all()) if probability == 0 else not bool(same.any())


# ADA: the controller ---------------------------------------------------------------------------


def test_controller_follows_the_oracle(oracles: Path) -> None:
    for case in cases(oracles, "extras", "ada_controller"):
        inputs = case["inputs"]
        part = ADA(target=inputs["target"], kimg=inputs["kimg"], start=inputs["p"])
        state = part.initial_state(CPU)
        state["sign_sum"].fill_(inputs["sign_sum"])
        state["images"].fill_(inputs["n_images"])
        part.adjust(0, state)
        assert part.metrics(state)["ada_probability"] == pytest.approx(
            case["expected"]["new_p"], abs=1e-7
        )
        assert not state["sign_sum"].any()
        assert not state["images"].any()


def test_controller_waits_for_its_step_and_counts_signs() -> None:
    part = ADA(target=0.5, kimg=0.1, interval=4, start=0.5)
    state = part.initial_state(CPU)
    held = state["probability"]
    part.observe(torch.tensor([3.0, 0.2, -0.1, 0.0]), state)  # signs sum to 1
    part.adjust(3, state)
    assert float(state["images"]) == 4
    assert float(state["sign_sum"]) == 1
    part.adjust(4, state)
    assert float(held) == pytest.approx(0.5 - 4 / 100)  # changed in place
    part.adjust(4, state)  # nothing seen since: nothing changes
    assert float(held) == pytest.approx(0.46)


@pytest.mark.parametrize(("logit", "end"), [(5.0, 1.0), (-5.0, 0.0)])
def test_probability_stays_between_0_and_1(logit: float, end: float) -> None:
    part = ADA(kimg=0.1, interval=1, start=0.5)
    state = part.initial_state(CPU)
    for step in range(5):
        part.observe(torch.full((30,), logit), state)
        part.adjust(step, state)
    assert float(state["probability"]) == end


# Both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [DiffAugment(), ADA(start=1.0)], ids=["DiffAug", "ADA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_r1_passes_through(part: Augmentation, channels: int) -> None:
    images = torch.randn(2, channels, 8, 8, dtype=torch.float64, generator=seeded())
    state = part.initial_state(CPU)

    def augmented(x: Tensor) -> Tensor:
        return part.apply(x, state, seeded(5)).square()

    x = images.requires_grad_()
    assert torch.autograd.gradcheck(augmented, x, atol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(augmented, x, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("part", [DiffAugment(), ADA(start=0.6)], ids=["DiffAug", "ADA"])
def test_draws_come_from_the_generator_alone(part: Augmentation) -> None:
    images, state = torch.randn(4, 1, 32, 32), part.initial_state(CPU)
    before = {key: value.clone() for key, value in state.items()}
    torch.manual_seed(1)
    first = part.apply(images, state, seeded(7))
    torch.manual_seed(2)
    assert torch.equal(first, part.apply(images, state, seeded(7)))
    assert not torch.equal(first, part.apply(images, state, seeded(8)))
    assert all(torch.equal(before[key], state[key]) for key in state)


def test_a_matrix_made_while_sampling_serves_training() -> None:
    with torch.inference_mode():
        warp(torch.randn(1, 1, 24, 24), matrices(1, size=24))
    images = torch.randn(1, 1, 24, 24, requires_grad=True)
    warp(images, matrices(1, size=24)).sum().backward()
    assert images.grad is not None


@pytest.mark.parametrize("part", [DiffAugment(), ADA(target=0.7)])
def test_parts_survive_json(part: Augmentation) -> None:
    assert part_from_json(json.loads(json.dumps(part.to_json())), Augmentation) == part


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: DiffAugment(cutout=1.5), "1.5"),
        (lambda: ADA(start=-0.1), "-0.1"),
        (lambda: ADA(interval=0), "0"),
        (lambda: ADA(kimg=-3), "-3"),
    ],
)
def test_impossible_settings_are_refused(make: Any, value: str) -> None:
    with pytest.raises(InputError, match=value):
        make()
