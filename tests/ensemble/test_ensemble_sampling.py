from __future__ import annotations

import csv
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensgan import zoo
from ensgan.ensemble import MemberSource, load_ensemble, write_bank
from ensgan.ensemble.members import choose, derived_seed, make_plan, uniforms
from ensgan.errors import InputError
from ensgan.types import ImageShape, Samples


def test_the_same_bytes_twice_and_from_two_openings(intact: Path) -> None:
    once = load_ensemble(intact).sample(24, seed=1)
    again = load_ensemble(str(intact)).sample(24, seed=1)
    assert once.images.shape == (24, 32, 32)
    assert once.key == again.key
    assert np.array_equal(once.members, again.members)
    assert once.key != load_ensemble(intact).sample(24, seed=2).key


@pytest.mark.parametrize("few", [1, 7, 10, 33])
def test_a_shorter_request_is_a_prefix_of_a_longer_one(intact: Path, few: int) -> None:
    ensemble = load_ensemble(intact)
    many, less = ensemble.sample(64, seed=3), ensemble.sample(few, seed=3)
    assert np.array_equal(many.images[:few], less.images)
    assert np.array_equal(many.labels[:few], less.labels)
    assert np.array_equal(many.members[:few], less.members)


def test_a_label_changes_its_image_and_later_ones_of_the_bank(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    zeros = ensemble.sample(12, [0] * 12, seed=5)
    one = ensemble.sample(12, [0] * 6 + [1] + [0] * 5, seed=5)
    differing = [i for i in range(12) if not np.array_equal(zeros.images[i], one.images[i])]
    assert 6 in differing
    bank = ensemble.member_names.index("Diffusion@1")
    assert all(i == 6 or (i > 6 and zeros.members[i] == bank) for i in differing)
    assert np.array_equal(zeros.members, one.members)


def test_members_and_labels_come_in_their_shares(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    assert ensemble.weights == pytest.approx((0.5, 0.25, 0.25))
    plan = make_plan(20_000, seed=0, weights=ensemble.weights, class_shares=[0.25, 0.75])
    assert np.bincount(plan.members) / 20_000 == pytest.approx([0.5, 0.25, 0.25], abs=0.02)
    assert plan.labels.mean() == pytest.approx(0.75, abs=0.02)
    # Independent draws: the classes of one member come in the same shares.
    assert plan.labels[plan.members == 1].mean() == pytest.approx(0.75, abs=0.03)


def test_every_image_names_its_member(intact: Path) -> None:
    samples = load_ensemble(intact).sample(40, seed=1)
    assert samples.member_names == ("SNGAN@20", "SAGAN@10", "Diffusion@1")
    assert set(samples.members.tolist()) == {0, 1, 2}


def test_a_stream_is_the_sample_in_batches(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    batches = list(islice(ensemble.stream(7, seed=4), 3))
    whole = ensemble.sample(21, seed=4)
    assert np.array_equal(np.concatenate([batch.images for batch in batches]), whole.images)
    assert np.array_equal(np.concatenate([batch.labels for batch in batches]), whole.labels)


def test_pytorch_sees_the_same_images(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    samples = ensemble.sample(10, seed=2)
    image, label = ensemble.dataset(10, seed=2)[3]
    assert image.shape == (1, 32, 32)
    assert np.array_equal((image[0].numpy() * 255).round().astype(np.uint8), samples.images[3])
    assert int(label) == samples.labels[3]
    sizes = [len(labels) for _, labels in ensemble.dataloader(4, 10, seed=2)]
    assert sizes == [4, 4, 2]
    flipped = next(iter(ensemble.dataloader(4, 10, seed=2, transform=lambda x: x.flip(-1))))
    assert np.array_equal(
        (flipped[0][3, 0].numpy() * 255).round().astype(np.uint8), samples.images[3, :, ::-1]
    )


def test_png_folder(intact: Path, tmp_path: Path) -> None:
    from PIL import Image

    ensemble = load_ensemble(intact)
    out = ensemble.save_png(tmp_path / "png", 12, seed=2)
    samples = ensemble.sample(12, seed=2)
    with (out / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    for index, row in enumerate(rows):
        assert np.array_equal(np.asarray(Image.open(out / row["file"])), samples.images[index])
        assert row["class"] == ("normal", "pneumonia")[samples.labels[index]]
        assert row["member"] == samples.member_names[samples.members[index]]
        assert (row["seed"], row["index"]) == ("2", str(index))
        said = Image.open(out / row["file"]).text
        assert said["Description"].startswith("SYNTHETIC IMAGE")
        assert f"member {row['member']}, seed 2, image {index}," in said["Source"]
    with pytest.raises(InputError, match="exists already"):
        ensemble.save_png(out, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_dicom_folder(publish: Callable[..., Path], tmp_path: Path, channels: int) -> None:
    import pydicom

    rng = np.random.default_rng(1)
    shape = ImageShape(channels, 9)  # an odd number of bytes is padded
    images = rng.integers(0, 256, shape.array_shape(6), dtype=np.uint8)
    bank = write_bank(tmp_path / "b", Samples(images, np.arange(6, dtype=np.int64) % 2))
    member = MemberSource("Bank@1", 1.0, bank, kind="bank")
    ensemble = load_ensemble(publish(tmp_path / "e", members=[member], shape=shape))
    out = ensemble.save_dicom(tmp_path / "dicom", 6, [0, 1] * 3, seed=3)
    samples = ensemble.sample(6, [0, 1] * 3, seed=3)
    with (out / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    uids = set()
    for index, row in enumerate(rows):
        found = pydicom.dcmread(out / row["file"])
        assert np.array_equal(found.pixel_array, samples.images[index])
        assert found.SOPClassUID.name == "Secondary Capture Image Storage"
        assert found[0x0008001C].value == "YES"
        assert found.ConversionType == "SYN"
        assert "SYNTHETIC" in found.ImageComments and "SYNTHETIC" in found.SeriesDescription
        assert "member Bank@1, seed 3, image" in found.DerivationDescription
        people = [e for e in found if e.tag.group == 0x0010 or e.VR in ("PN", "DA", "TM")]
        assert people and not any(element.value for element in people)
        assert found.SOPInstanceUID.is_valid
        uids.add(found.SOPInstanceUID)
    assert len(uids) == 6
    assert len({pydicom.dcmread(out / row["file"]).SeriesInstanceUID for row in rows}) == 1
    again = ensemble.save_dicom(tmp_path / "again", 1, [0], seed=3)
    other = pydicom.dcmread(next(again.rglob("*.dcm")))
    assert other.SOPInstanceUID not in uids


@pytest.mark.parametrize("gan", ["StyleGAN2", "BigGAN-Info", "ReACGAN"])
def test_every_backbone_is_published_and_samples_as_trained(
    publish: Callable[..., Path], tmp_path: Path, gan: str
) -> None:
    shape = ImageShape(3, 32)
    spec = zoo.get(gan).scaled(1 / 16)
    generator = zoo.build_generator(spec, shape, 2, seed=3)
    zoo.save_weights(generator.state_dict(), tmp_path / "w.safetensors")
    member = MemberSource(f"{gan}@5", 0.3, tmp_path / "w.safetensors", spec)
    ensemble = load_ensemble(publish(tmp_path / "e", members=[member], shape=shape))
    made = ensemble.sample(4, [0, 1, 1, 0], seed=9)
    direct = zoo.sample(
        generator, np.array([0, 1, 1, 0]), seed=derived_seed(9, f"{gan}@5"), start=0
    )
    assert made.images.shape == (4, 32, 32, 3)
    assert np.array_equal(made.images, direct)


def test_bad_requests(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    with pytest.raises(InputError, match="cannot make 0 images"):
        ensemble.sample(0)
    with pytest.raises(InputError, match=r"no class 2: labels are 0 … 1 \(normal, pneumonia\)"):
        ensemble.sample(2, [0, 2])
    with pytest.raises(InputError, match="no class -1"):
        ensemble.sample(2, [0, -1])
    with pytest.raises(InputError, match="give 3 labels"):
        ensemble.sample(3, [0, 1])
    with pytest.raises(InputError, match="unknown class 'pneumona'"):
        ensemble.sample(2, "pneumona")
    with pytest.raises(InputError, match=r"not 0\.5"):
        ensemble.sample(1, [0.5])
    with pytest.raises(InputError, match="seed must be"):
        ensemble.sample(1, seed=-1)


def test_labels_by_name_number_or_one_for_all(intact: Path) -> None:
    ensemble = load_ensemble(intact)
    wanted = ensemble.sample(3, np.array([1, 1, 1]), seed=4)
    for labels in ("pneumonia", 1, ["pneumonia", 1, np.int32(1)]):
        assert np.array_equal(ensemble.sample(3, labels, seed=4).images, wanted.images)


def test_a_bank_without_a_class_says_so(publish: Callable[..., Path], sources, tmp_path) -> None:
    folder = publish(
        tmp_path / "e",
        members=[sources[2]],
        class_names=["a", "b", "c"],
        class_shares=[0.5, 0.5, 0.0],
    )
    ensemble = load_ensemble(folder)
    assert len(ensemble.sample(5)) == 5
    with pytest.raises(InputError, match="bank Diffusion@1 has no image of class 2"):
        ensemble.sample(1, [2])


def test_a_bank_gives_each_image_once(publish: Callable[..., Path], sources, tmp_path) -> None:
    ensemble = load_ensemble(publish(tmp_path / "e", members=[sources[2]]))
    labels = [0, 1] * 10
    first, other = (ensemble.sample(20, labels, seed=seed) for seed in (1, 2))
    for samples in (first, other):
        assert len({image.tobytes() for image in samples.images}) == 20
    assert first.key != other.key  # another order
    assert np.array_equal(ensemble.sample(7, labels[:7], seed=1).images, first.images[:7])
    with pytest.raises(InputError, match=r"holds 10 images of class 0 and 11 of them .* repeats"):
        ensemble.sample(22, [0, 1] * 11, seed=1)
    with pytest.raises(InputError, match="fewer images"):
        ensemble.dataloader(4, 100)
    again = ensemble.sample(40, labels * 2, seed=1, replacement=True)
    assert np.array_equal(again.images[:20], first.images)
    kept = [image.tobytes() for image in again.images]
    assert sorted(kept[:20]) == sorted(kept[20:]) and kept[:20] != kept[20:]
    batches = np.concatenate([b.images for b in islice(ensemble.stream(9, seed=1), 5)])
    drawn = ensemble.sample(45, seed=1, replacement=True)
    assert np.array_equal(batches, drawn.images)


@given(
    seed=st.integers(0, 2**63 - 1),
    n=st.integers(1, 50),
    split=st.integers(0, 50),
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_plans_continue_where_they_stopped(
    seed: int, n: int, split: int, weights: list[float]
) -> None:
    whole = make_plan(n + split, seed=seed, weights=weights, class_shares=[0.5, 0.5])
    first = make_plan(split, seed=seed, weights=weights, class_shares=[0.5, 0.5])
    rest = make_plan(
        n, seed=seed, weights=weights, class_shares=[0.5, 0.5], start=split, made=first.made
    )
    for field in ("members", "ranks", "turns", "labels"):
        joined = np.concatenate([getattr(first, field), getattr(rest, field)])
        assert np.array_equal(getattr(whole, field), joined)
    for member in range(len(weights)):
        of_member = whole.members == member
        assert whole.ranks[of_member].tolist() == list(range(whole.made[member].sum()))
        for label in (0, 1):
            turns = whole.turns[of_member & (whole.labels == label)]
            assert turns.tolist() == list(range(whole.made[member, label]))


def test_draws_by_share() -> None:
    draws = np.array([0.0, 0.2499, 0.25, 0.9999999])
    assert choose([0.25, 0.0, 0.75], draws).tolist() == [0, 0, 2, 2]
    assert np.array_equal(uniforms(9, 5, 3), uniforms(9, 0, 8)[5:])
