"""A pool of generators given as images: real ones, and some of each generator.

A folder ``POOL`` with ``real/``, ``real.npz`` or ``real.npy``, and in ``POOL/fake/`` for each
generator a folder ``NAME/``, a file ``NAME.npz`` (``images`` uint8, ``labels``) or ``NAME.npy``
(images only). ``NAME.json`` beside it may say where it came from. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensgan.data.image_files import is_leftover
from ensgan.data.image_set import read_images
from ensgan.data.picture import is_picture
from ensgan.data.request import ReportProgress
from ensgan.errors import DataError
from ensgan.files import map_array, read_json, sha256_arrays
from ensgan.inputs import kind
from ensgan.types import Dataset, ImageShape, Samples
from ensgan.types.names import MEMBER_NAME

_LONGEST_NOTE = 1 << 20  # bytes of NAME.json


@dataclass(frozen=True)
class PoolMember:
    """The images of one generator.

    Attributes:
        name: of the generator.
        samples: its images at the pool's size; labels are 0 where it gives none.
        labelled: whether its labels say the class of each image.
        facts: what ``NAME.json`` says: ``licence``, ``source`` and whatever else its author noted.
    """

    name: str
    samples: Samples
    labelled: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImagePool:
    """Real images and those of each generator, all of one size.

    Attributes:
        real: the real images, labels 0 where there are no classes.
        class_names: in label order; one name where there are no classes.
        members: the generators by name.
        facts: of the real data: ``name``, ``key`` (SHA-256), ``licence``, ``source``.
    """

    real: Samples
    class_names: tuple[str, ...]
    members: tuple[PoolMember, ...]
    facts: Mapping[str, str]

    @property
    def contents(self) -> tuple[str, ...]:
        """SHA-256 over the images of the real set and of each member."""
        sets = (self.real, *(member.samples for member in self.members))
        return tuple(sha256_arrays(one.images) for one in sets)


def is_image_pool(folder: Path) -> bool:
    """Whether the real set, or else some generator, is given as images and not as features."""
    if kind(folder) != "folder":
        return False
    real = [folder / "real", folder / "real.npz", folder / "real.npy"]
    given = [path for path in real if path.exists()]
    return any(_holds_images(path) for path in given or sorted((folder / "fake").glob("*")))


def _holds_images(path: Path) -> bool:
    """Images, that is no feature files: an ``.npy`` of [n,D] holds features."""
    if kind(path) == "folder":
        files = (file for file in path.rglob("*") if file.suffix.lower() != ".npy")
        return any(kind(file) == "file" and is_picture(file) for file in files)
    if path.suffix == ".npy":
        try:
            return map_array(path).ndim > 2
        except DataError:
            return False
    return path.suffix == ".npz" and kind(path) == "file"


def read_real(
    folder: Path, *, dataset: Dataset | None = None, image_size: int | None = None
) -> tuple[Samples, tuple[str, ...], dict[str, str]]:
    """The real images of a pool, the class names and what is known of the data.

    Args:
        folder: the pool.
        dataset: its training split is taken instead of what lies in the folder.
        image_size: side of the images; that of the first image when None.

    Raises:
        DataError: no real images, or images that cannot be used.
    """
    if dataset is not None:
        facts = {"name": dataset.name, "key": dataset.key, "licence": dataset.licence}
        return dataset.train, dataset.class_names, facts | {"source": dataset.source}
    path = _one_of(folder, "real")
    if path is None:
        raise DataError(
            f"{folder} has no real images: put them into {folder / 'real'}/CLASS/, write "
            "real.npz (images, labels), or name a data set with --data"
        )
    images, labels = read_images(path, folder, image_size, None)
    if images.shape[1] < 8:
        raise DataError(f"{path} holds images of {images.shape[1]} pixels: at least 8 are needed")
    samples = Samples(images, labels.values)
    facts = {"name": folder.resolve().name, "key": samples.key, "source": f"{path.name}"}
    noted = {key: str(value) for key, value in _facts(folder / "real.json").items()}
    return samples, labels.names, {"licence": "", **facts, **noted}


def read_pool(
    folder: Path,
    *,
    dataset: Dataset | None = None,
    image_size: int | None = None,
    on_progress: ReportProgress | None = None,
) -> ImagePool:
    """Read a pool; images of another size are brought to that of the real ones.

    Args:
        folder: see the module's text.
        dataset, image_size: see :func:`read_real`.
        on_progress: called with (generators read, generators in all).

    Raises:
        DataError: no generators, a name twice, or images that cannot be used.
    """
    real, class_names, facts = read_real(folder, dataset=dataset, image_size=image_size)
    sources = _sources(folder)
    members = []
    for done, (name, path) in enumerate(sources.items(), start=1):
        samples, labelled = read_generator(path, real.shape, class_names, folder)
        noted = _facts(folder / "fake" / f"{name}.json")
        members.append(PoolMember(name, samples, labelled, noted))
        if on_progress is not None:
            on_progress(done, len(sources))
    return ImagePool(real, class_names, tuple(members), facts)


def read_generator(
    path: Path, shape: ImageShape, class_names: tuple[str, ...], root: Path | None = None
) -> tuple[Samples, bool]:
    """The images of one generator at the size and channels of the real ones.

    Args:
        path: a folder (class folders, ``labels.csv`` or plain images), ``.npz`` or ``.npy``.
        shape, class_names: of the real images.
        root: file names in messages are relative to it; by default the folder above ``path``.

    Returns:
        The images, and whether they come with classes (always, where there is but one).

    Raises:
        DataError: missing, or images that cannot be used.
    """
    images, labels = read_images(path, root or path.parent, shape, class_names)
    return Samples(images, labels.values), labels.given or len(class_names) == 1


def check_name(name: str) -> str:
    """A name that a member of an ensemble may have.

    Raises:
        DataError: it has other signs, or is too long.
    """
    if not MEMBER_NAME.fullmatch(name):
        raise DataError(
            f"'{name}' cannot name a generator: use letters, digits and . _ + @ ~ - (at most 121)"
        )
    return name


def _one_of(folder: Path, name: str) -> Path | None:
    """``name/``, ``name.npz`` or ``name.npy`` in the folder."""
    places = [path for end in ("", ".npz", ".npy") if (path := folder / f"{name}{end}").exists()]
    if len(places) > 1:
        raise DataError(
            f"{folder} holds {' and '.join(path.name for path in places)}: keep one of them"
        )
    return places[0] if places else None


def _sources(folder: Path) -> dict[str, Path]:
    """Where the images of each generator are, by name."""
    fake = folder / "fake"
    names = {
        path.name if path.is_dir() else path.stem
        for path in fake.glob("*")
        if (path.is_dir() or path.suffix in (".npz", ".npy")) and not is_leftover(path.name)
    }
    if not names:
        raise DataError(
            f"{fake} holds no generators: give each a folder of images {fake}/NAME/ or a file "
            "NAME.npz with images and labels"
        )
    sources = {}
    for name in sorted(names):
        path = _one_of(fake, check_name(name))
        assert path is not None
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path} is a link that leads out of the pool: copy the images")
        sources[name] = path
    return sources


def _facts(path: Path) -> dict[str, Any]:
    if kind(path) != "file":
        return {}
    value = read_json(path, _LONGEST_NOTE)
    if not isinstance(value, dict):
        raise DataError(f"{path} must hold one JSON object of notes")
    return value
