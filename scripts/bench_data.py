"""Preparing DICOM files and looking for near duplicates.

Peers, in the same run: a plain one-process loop (pydicom, NumPy percentiles, Pillow), and
pydicom's bare decoding of the same files, which is the floor of one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ensgan.data.duplicates import near_pairs, thumbnails
from ensgan.data.image_files import decode_files
from ensgan.data.prepare import Job, Preparation

DISTINCT = 24  # files written; the others are hard links to them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--size", type=int, default=32, help="side of the prepared images")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--thumbnails", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=1)


def write_files(folder: Path, count: int, side: int) -> list[Path]:
    """12-bit chest-like DICOM files; only the first DISTINCT take up disk."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    paths = []
    for index in range(count):
        path = folder / f"{index:05d}.dcm"
        paths.append(path)
        if index >= DISTINCT:
            os.link(paths[index % DISTINCT], path)
            continue
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        dataset.PatientID = f"made-{index}"
        dataset.Rows = dataset.Columns = side
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        waves = np.sin(6 * x + index) * np.cos(5 * y)
        noise = rng.standard_normal((side, side), dtype=np.float32)
        values = np.clip(1800 + 1000 * waves + 60 * noise, 0, 4095)
        dataset.PixelData = values.astype(np.uint16).tobytes()
        dataset.save_as(path, enforce_file_format=True)
    return paths


def plain_loop(paths: Sequence[Path], size: int) -> np.ndarray:
    """What one would write first."""
    from pydicom import dcmread
    from pydicom.pixels import apply_modality_lut

    images = []
    for path in paths:
        dataset = dcmread(path)
        values = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float32)
        low, high = np.percentile(values, (2, 98))
        unit = np.clip((values - low) / (high - low), 0, 1)
        picture = Image.fromarray((255 * unit).astype(np.uint8))
        images.append(np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)))
    return np.stack(images)


def bare_decode(paths: Sequence[Path]) -> None:
    from pydicom import dcmread

    for path in paths:
        _ = dcmread(path).pixel_array


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def run(options: argparse.Namespace) -> dict[str, Any]:
    times: dict[str, list[float]] = {
        name: [] for name in ("ours", "cached", "plain", "bare", "near")
    }
    difference = 0.0
    rng = np.random.default_rng(0)
    shape = (options.thumbnails, 32, 32)
    chests = rng.normal(size=(40, 1024)).astype(np.float32)
    for _repeat in range(options.repeats):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            paths = write_files(folder, options.files, options.side)
            bare_decode(paths[:DISTINCT])  # every contender finds the files in memory
            jobs, preparation = [Job(path) for path in paths], Preparation(options.size)

            def ours(
                jobs: list[Job] = jobs,
                preparation: Preparation = preparation,
                folder: Path = folder,
            ) -> np.ndarray:
                decoded = decode_files(
                    jobs, preparation, root=folder, cache=folder / "c", workers=options.workers
                )
                return decoded.images

            spent, images = seconds(ours)
            times["ours"].append(spent)
            times["cached"].append(seconds(ours)[0])
            times["bare"].append(seconds(lambda paths=paths: bare_decode(paths))[0])
            spent, plain = seconds(lambda paths=paths: plain_loop(paths, options.size))
            times["plain"].append(spent)
            difference = float(np.abs(images.astype(int) - plain.astype(int)).mean())
        # Chest-like thumbnails: mixtures of a few patterns, so that many correlate.
        weights = rng.normal(size=(options.thumbnails, 40)).astype(np.float32)
        mixed = (weights @ chests).reshape(shape)
        scaled = np.clip(128 + 6 * mixed, 0, 255).astype(np.uint8)
        scaled[1::1000] = scaled[::1000]  # 1 in 1,000 is a duplicate
        spent, pairs = seconds(lambda images=scaled: near_pairs(thumbnails(images)))
        times["near"].append(spent)
    median = {name: statistics.median(values) for name, values in times.items()}
    return {
        "files": options.files,
        "side": options.side,
        "workers": options.workers,
        "thumbnails": options.thumbnails,
        "repeats": options.repeats,
        "seconds": median,
        "speedup_over_plain": median["plain"] / median["ours"],
        "ratio_to_bare_decode": median["ours"] / median["bare"],
        "mean_difference_to_plain": difference,
        "near_pairs_found": len(pairs),
    }


def show(result: dict[str, Any]) -> None:
    spent = result["seconds"]
    print(f"{result['files']} DICOM files of {result['side']}×{result['side']}, 12 bits:")
    print(f"  ours, {result['workers']} threads   {spent['ours']:8.2f} s")
    print(f"  ours, from the cache {spent['cached']:6.2f} s")
    print(f"  plain loop           {spent['plain']:6.2f} s  ({result['speedup_over_plain']:.2f} ×)")
    ratio = result["ratio_to_bare_decode"]
    print(f"  bare pydicom decode  {spent['bare']:6.2f} s  (ours / bare: {ratio:.2f})")
    print(f"  mean difference to the plain loop: {result['mean_difference_to_plain']:.3f} levels")
    print(f"{result['thumbnails']} images searched for near duplicates: {spent['near']:.2f} s")
