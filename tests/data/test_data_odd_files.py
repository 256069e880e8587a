"""Odd files of other programs: read as viewers show them, or refused by name, never in silence."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensgan.data import check, load_dataset, picture
from ensgan.data.image_files import find_pictures
from ensgan.data.picture import Turns, opened, read_picture
from ensgan.errors import DataError

WriteDicom = Callable[..., Path]
RNG = np.random.default_rng(0)


def noise(size: int = 16) -> np.ndarray:
    return RNG.integers(0, 256, (size, size), dtype=np.uint8)


def ramp(size: int = 64) -> np.ndarray:
    """Dark on the left, bright on the right, its upper half darker: no turn leaves it as it is."""
    image = np.tile(np.linspace(20, 220, size), (size, 1))
    image[: size // 2] *= 0.5
    return image.astype(np.uint8)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for label in ("normal", "opacity"):
        (root / label).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(noise()).save(root / label / f"{index}.png")
    return root


def test_a_tree_that_holds_hardly_an_image_is_left_soon(
    classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensgan.data.image_files._MANY", 100)
    for index in range(300):  # in a folder that comes before the images
        (classes / "a").mkdir(exist_ok=True)
        (classes / "a" / f"{index}.json").touch()
    found = find_pictures(classes)
    assert len(found.files) == 24 and found.notes == ("300 files were left out: 300 × .json",)
    for index in range(300):
        (classes / "a" / f"{index}.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="its first 101 files and folders hold 0; name the folder"):
        find_pictures(classes)


def test_files_that_say_they_are_empty_are_not_opened(
    classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (classes / "normal" / "empty").touch()  # as those of /proc do, and reading some never ends
    monkeypatch.setattr("ensgan.data.picture.first_bytes", None)
    assert len(find_pictures(classes).files) == 24


def total(root: Path) -> int:
    return sum(map(len, load_dataset(root, image_size=16).splits().values()))


# How an upright image must be stored for each EXIF orientation to show it upright.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_images_stored_on_their_side_are_read_upright(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{ending}"
    stored = np.ascontiguousarray(STORED[orientation](ramp()))
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    image, _ = read_picture(path)
    assert image.ndim == 2
    np.testing.assert_allclose(image.astype(int), ramp().astype(int), atol=25)


@pytest.mark.parametrize("ending", [".webp", ".jfif", ".gif", ".pgm", ".JPE", ".Tiff", ".bmp"])
def test_every_usual_ending_is_read(classes: Path, ending: str) -> None:
    kinds = {".webp": "WEBP", ".gif": "GIF", ".pgm": "PPM", ".Tiff": "TIFF", ".bmp": "BMP"}
    for index in range(5):
        kind = kinds.get(ending, "JPEG")
        Image.fromarray(noise()).save(classes / "normal" / f"more{index}{ending}", kind)
    dataset = load_dataset(classes, image_size=16)
    assert dataset.warnings == () and dataset.shape.channels == 1
    assert total(classes) == 29


def test_content_counts_where_endings_say_nothing(classes: Path, write_dicom: WriteDicom) -> None:
    pixels = noise()
    Image.fromarray(pixels).save(classes / "normal" / "no ending", "PNG")
    Image.fromarray(pixels).save(classes / "normal" / "scan.0001", "PNG")
    for name in ("1.3.6.1.4.1.14519.5.2.1", "a.IMA", "b.dicom"):
        window = {"WindowCenter": 128, "WindowWidth": 256}
        write_dicom(classes / "opacity" / name, pixels.astype(np.uint16), **window)
    assert total(classes) == 29


def test_what_is_left_out_is_counted_and_said(
    classes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        (classes / "normal" / f"{index}.heic").write_bytes(b"x" * 200)
    (classes / "normal" / "volume.nii.gz").write_bytes(b"x" * 200)
    (classes / "README.txt").write_text("about")
    os.mkfifo(classes / "normal" / "control")
    report = check(load_dataset(classes, image_size=16), near=False)
    assert report.problems == (
        "5 files were left out as they cannot be read: 3 × .heic, 1 × .gz, 1 × no regular file",
    )
    assert "1 file was left out: 1 × .txt" in report.notes
    assert [record.getMessage() for record in caplog.records] == [f"set: {report.problems[0]}"]
    for path in (*classes.rglob("*.png"),):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no image files .* 3 × .heic"):
        load_dataset(classes)


def test_leftovers_of_other_programs_are_passed_over(
    classes: Path, write_dicom: WriteDicom
) -> None:
    for name in ("__MACOSX", "@eaDir"):
        (classes / name / "normal").mkdir(parents=True)
        Image.fromarray(noise()).save(classes / name / "normal" / "x.png")
    write_dicom(classes / "DICOMDIR", noise().astype(np.uint16))
    (classes / "normal" / "._0.png").write_bytes(b"\0\5\x16\7")
    (classes / "normal" / "Thumbs.db").write_bytes(b"x")
    dataset = load_dataset(classes, image_size=16)
    assert dataset.class_names == ("normal", "opacity")
    assert dataset.warnings == dataset.notes == ()
    assert total(classes) == 24


def write_tiff(path: Path, values: np.ndarray, photometric: int, order: str = "<") -> None:
    bits = values.dtype.itemsize * 8
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    height, width = values.shape
    tags = ((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric))
    tags += ((273, 4, 8), (277, 3, 1), (278, 3, height), (279, 4, len(data)))
    out = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data)) + data
    out += struct.pack(f"{order}H", len(tags))
    for tag, kind, value in tags:
        packed = (
            struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        )
        out += struct.pack(f"{order}HHI", tag, kind, 1) + packed
    path.write_bytes(out + struct.pack(f"{order}I", 0))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_white_is_zero_is_turned_round_at_any_depth(tmp_path: Path, kind: type, order: str) -> None:
    top = np.iinfo(kind).max
    values = (np.tile(np.linspace(0, 1, 32), (32, 1)) * top).astype(kind)
    write_tiff(tmp_path / "white.tif", (top - values).astype(kind), 0, order)
    write_tiff(tmp_path / "black.tif", values, 1, order)
    if order == ">" and kind == np.uint16:  # Pillow knows no such files
        with pytest.raises(DataError, match="cannot be read as an image"):
            read_picture(tmp_path / "white.tif")
        return
    white, black = (read_picture(tmp_path / f"{n}.tif", "full")[0] for n in ("white", "black"))
    np.testing.assert_array_equal(white, black)
    np.testing.assert_allclose(white.astype(int), values / top * 255, atol=1)


def test_transparent_parts_are_shown_on_black_and_said(classes: Path) -> None:
    layers = np.full((16, 16, 4), 200, np.uint8)
    layers[:, :8, 3] = 0
    layers[:, 8:, 3] = 255
    path = classes / "normal" / "clear.png"
    Image.fromarray(layers).save(path)
    image, _ = read_picture(path)
    assert image[:, :8].max() == 0 and image[:, 8:].min() == 200
    notes = load_dataset(classes, image_size=16, options={"channels": 1}).notes
    assert any(
        "1 of 25 images have transparent parts, shown on black (the first: normal/clear.png)"
        in text
        for text in notes
    )
    layers[..., 3] = 255
    Image.fromarray(layers).save(path)
    assert load_dataset(classes, image_size=16).notes == ()


def test_eight_and_sixteen_bits_are_not_mixed_in_silence(classes: Path) -> None:
    wide = (RNG.integers(0, 4096, (16, 16))).astype(np.uint16)
    Image.fromarray(wide).save(classes / "normal" / "wide.png")
    with pytest.raises(DataError, match=r"1 of 25 are of more bits \(normal/wide.png\).*window"):
        load_dataset(classes, image_size=16)
    full = load_dataset(classes, image_size=16, options={"window": "full"})
    assert any(image.max() <= 16 for image in full.train.images) or len(full.train) < 25
    for path in sorted(classes.rglob("?.png")) + sorted(classes.rglob("??.png")):
        Image.fromarray(wide).save(path)
    (note,) = load_dataset(classes, image_size=16).notes
    assert "25 of 25 images have more than 8 bits" in note


def test_a_note_says_which_dicom_was_stretched(tmp_path: Path, write_dicom: WriteDicom) -> None:
    values = RNG.integers(0, 4000, (16, 16)).astype(np.uint16)
    for name in ("no", "yes"):
        for i in range(12):
            own = {"WindowCenter": 2000, "WindowWidth": 3000} if i < 4 else {}
            write_dicom(tmp_path / name / f"{i}.dcm", np.roll(values, 12 * i + len(name)), **own)
    (note,) = load_dataset(tmp_path, image_size=16).notes
    assert "16 of 24 images have more than 8 bits or are DICOM, and have no window of" in note
    assert load_dataset(tmp_path, image_size=16, options={"window": "full"}).notes == ()
    Image.fromarray((values >> 4).astype(np.uint8)).save(tmp_path / "no" / "plain.png")
    with pytest.raises(DataError, match=r"1 of 17 are of 8 bits \(no/plain.png\).*window"):
        load_dataset(tmp_path, image_size=16)


# DICOM


# Limits


def test_one_damaged_file_among_good_ones_is_named(classes: Path) -> None:
    odd = classes / "normal" / "odd.npy"
    contents = {
        "zip": b"PK\x03\x04" + bytes(60),
        "header": b"\x93NUMPY\x01\x00\x10\x00((((((((((((((( ",
        "shape": _npy("(99999999999999999999,)"),
        "large": _npy("(40000, 40000)"),
    }
    for content in contents.values():
        odd.write_bytes(content)
        with pytest.raises(DataError, match=r"1 of 25 images cannot be used:\n  - normal/odd\.npy"):
            load_dataset(classes, image_size=16)


def _npy(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(("mode", "needed"), [("F", 12.96), ("RGBA", 19.44), ("CMYK", 19.44)])
def test_images_that_need_too_much_memory_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, needed: float
) -> None:
    path = tmp_path / "a.tif"
    Image.new(mode, (900, 900)).save(path, compression="tiff_deflate")
    read_picture(path)
    monkeypatch.setattr(picture, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(DataError, match=f"needs {needed:.0f} MB of memory to decode, more than"):
        read_picture(path)


def test_large_files_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 64 << 20

    monkeypatch.setattr("psutil.virtual_memory", lambda: Little)
    turns = Turns(workers=4)  # 8 MiB each
    with turns.take(9 << 20), turns.take(9 << 20):  # the same thread may go on
        assert not _free_for_others(turns)
    with turns.take(7 << 20):
        assert _free_for_others(turns)


def _free_for_others(turns: Turns) -> bool:
    from concurrent.futures import ThreadPoolExecutor

    def attempt() -> bool:
        acquired = turns._lock.acquire(blocking=False)
        if acquired:
            turns._lock.release()
        return acquired

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(attempt).result()


def test_pipes_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.png")
    for path in (tmp_path / "p.png", tmp_path):
        with pytest.raises(DataError, match="not a file"), opened(path):
            pass
    with pytest.raises(DataError, match="neither a folder nor"):
        os.mkfifo(tmp_path / "p.npz")
        load_dataset(tmp_path / "p.npz")


def test_only_formats_that_pillow_reads_itself_are_opened(tmp_path: Path) -> None:
    """EPS, for one, would run Ghostscript."""
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_picture(path)
    assert "EPS" not in picture._FORMATS


def test_a_png_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    text = b"a\0\0" + zlib.compress(bytes(80 << 20), 1)
    out = BytesIO()
    out.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"zTXt", text))
    out.write(chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b""))
    path = tmp_path / "a.png"
    path.write_bytes(out.getvalue())
    with pytest.raises(DataError, match="cannot be read as an image"):
        read_picture(path)
