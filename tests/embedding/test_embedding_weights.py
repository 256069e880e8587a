"""Published and trained weights: names, checks, conversion, refusal, the medical extractor."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ensgan.embedding import load_extractor, make_extractor, table
from ensgan.embedding.fit import FitSettings
from ensgan.embedding.resnet import resnet18, resnet50
from ensgan.embedding.spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    WeightSource,
    fit_to,
    obtain_weights,
    read_weights,
)
from ensgan.errors import DataError, InputError, IntegrityError
from ensgan.types import Dataset, Samples

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def test_resnets_have_the_published_sizes_and_names() -> None:
    # torchvision's counts for 1000 classes; ResNet-18 there has a 7×7 stem for three channels.
    assert sum(p.numel() for p in resnet50().parameters()) == 25_557_032
    small = resnet18(channels=3, classes=1000, seed=0)
    stem = 64 * 3 * (7 * 7 - 3 * 3)
    assert sum(p.numel() for p in small.parameters()) + stem == 11_689_512
    keys = resnet50().state_dict()
    for name in ("conv1.weight", "layer1.0.downsample.1.running_var", "layer4.2.bn3.bias"):
        assert name in keys


def test_resnet18_seed_decides_the_weights_only() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (resnet18(channels=1, classes=2, width=8, seed=s) for s in (1, 1, 2))
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert torch.equal(one.fc.weight, same.fc.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert torch.equal(before, torch.get_rng_state())


def test_narrow_networks_train_without_channels_last() -> None:
    # With fewer than 8 channels, channels last made torch's backward pass corrupt memory.
    assert resnet18(channels=1, classes=2, width=4, seed=0).memory_format == torch.contiguous_format
    assert resnet18(channels=1, classes=2, width=8, seed=0).memory_format == torch.channels_last


def test_preprocessing_repeats_grey_resizes_and_normalises() -> None:
    grey = np.full((2, 8, 8), 51, np.uint8)
    x = Preprocessing(3, 16, IMAGENET_MEAN, IMAGENET_STD)(grey, torch.device("cpu"))
    assert x.shape == (2, 3, 16, 16)
    expected = (0.2 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert np.allclose(x.mean((0, 2, 3)).numpy(), expected, atol=1e-5)
    # An anti-aliased filter turns a checkerboard grey when it shrinks; plain bicubic does not.
    board = np.indices((64, 64)).sum(0)[None] % 2 * 255
    small = Preprocessing(1, 8, (0.0,), (1.0,))(board.astype(np.uint8), torch.device("cpu"))
    assert small[..., 1:-1, 1:-1].sub(0.5).abs().max() < 0.02


def test_resnet50_from_a_file_and_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = resnet50()
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    file = tmp_path / "swav.pth.tar"
    torch.save({f"module.{k}": v for k, v in state.items() if not k.startswith("fc.")}, file)
    extractor = make_extractor("swav", weights=file)
    assert extractor.dim == 2048
    assert "NC" in extractor.licence
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32), dtype=np.uint8)
    x = extractor.preprocessing(images, torch.device("cpu"))
    assert x.shape == (1, 3, 224, 224)
    with torch.inference_mode():
        expected = network.eval().features(x).numpy()
    assert np.allclose(extractor(images), expected, rtol=1e-4, atol=1e-5)
    extractor.save(tmp_path / "extractor.safetensors")
    assert load_extractor(tmp_path / "extractor.safetensors").key == extractor.key


def test_torchvisions_resnet50_file_loads_unchanged(tmp_path: Path) -> None:
    """The names and shapes of torchvision's own state dict, head and all, as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in resnet50().state_dict().items()}
    assert state["fc.weight"].shape == (1000, 2048)
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    save_file(state, tmp_path / "resnet50.safetensors")
    extractor = make_extractor("resnet50", weights=tmp_path / "resnet50.safetensors")
    assert extractor.dim == 2048 and "ImageNet" in extractor.licence


def test_random_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave the weights out"):
        make_extractor("random", weights=tmp_path / "w.pth")


def test_download_is_checked_converted_and_kept(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.pth", tmp_path / "cache"
    torch.save({"state_dict": STATE}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    source = WeightSource(file.as_uri(), digest[:8])
    state = obtain_weights("net", source, None, cache)
    assert torch.equal(state["a.weight"], STATE["a.weight"])
    assert sorted(path.name for path in cache.iterdir()) == ["net.json", "net.safetensors"]
    file.unlink()
    assert torch.equal(obtain_weights("net", source, None, cache)["a.bias"], STATE["a.bias"])
    (cache / "net.safetensors").write_bytes(b"changed")
    with pytest.raises(IntegrityError, match="changed after"):
        obtain_weights("net", source, None, cache)


def test_a_wrong_checksum_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.pth", tmp_path / "cache"
    torch.save(STATE, file)
    with pytest.raises(IntegrityError, match="0000beef"):
        obtain_weights("net", WeightSource(file.as_uri(), "0000beef"), None, cache)
    assert list(cache.iterdir()) == []


def test_without_a_published_checksum_the_first_download_counts(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.pth", tmp_path / "cache"
    torch.save(STATE, file)
    source = WeightSource(file.as_uri())
    obtain_weights("net", source, None, cache)
    record = (cache / "net.json").read_bytes()
    for damaged in ("[]", '{"url": ""}'):
        (cache / "net.json").write_text(damaged)
        with pytest.raises(DataError, match=r"net\.json is damaged: delete it"):
            obtain_weights("net", source, None, cache)
    (cache / "net.json").write_bytes(record)
    (cache / "net.safetensors").unlink()
    torch.save({**STATE, "a.bias": torch.zeros(2)}, file)
    with pytest.raises(IntegrityError, match="replaced"):
        obtain_weights("net", source, None, cache)


def test_unreachable_or_missing_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="on a machine with network"):
        obtain_weights("net", WeightSource((tmp_path / "no").as_uri()), None, tmp_path / "cache")
    with pytest.raises(InputError, match="cache folder"):
        make_extractor("resnet50")
    with pytest.raises(DataError, match="no such weight file"):
        make_extractor("resnet50", weights=tmp_path / "no.pth")


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil-was-here"),)


def test_files_that_are_no_state_dict_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / "bad.pth"
    torch.save({"model": Evil()}, bad)
    with pytest.raises(DataError, match="plain tensors"):
        read_weights(bad)
    assert not Path("evil-was-here").exists()
    bad.write_bytes(b"not a file of torch")
    with pytest.raises(DataError, match="cannot be read"):
        read_weights(bad)
    torch.save({"epoch": 3}, bad)
    with pytest.raises(DataError, match="'epoch' is no tensor"):
        read_weights(bad)
    torch.save([1], bad)
    with pytest.raises(DataError, match="list"):
        read_weights(bad)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    with pytest.raises(DataError, match=r"lacks bias.*unknown entry extra.*\[4, 4\]"):
        fit_to(network, {"weight": torch.ones(4, 4), "extra": torch.ones(1)}, "net")
    save_file(STATE, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"do not fit the extractor 'resnet50'.*more\)"):
        make_extractor("resnet50", weights=tmp_path / "w.safetensors")


def toy(n: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 150, (n, 8, 8), dtype=np.uint8)
    images[labels == 1, :4] += 90
    return Samples(images, labels)


def toy_dataset(test_seed: int = 2) -> Dataset:
    return Dataset("toy", toy(64, 0), toy(16, 1), toy(16, test_seed), ("no", "yes"))


def test_medical_learns_the_classes_and_is_cached(tmp_path: Path, monkeypatch) -> None:
    short = FitSettings(epochs=3, batch=16)
    monkeypatch.setattr(table, "SETTINGS", short)
    state = table.train_medical(toy_dataset(), seed=0)
    save_file(state, tmp_path / "w.safetensors")
    extractor = make_extractor("medical", dataset=toy_dataset(), weights=tmp_path / "w.safetensors")
    assert extractor.dim == 128
    test = toy(60, 9)
    features = extractor(test.images)
    centres = [features[test.labels == label].mean(0) for label in (0, 1)]
    nearest = np.argmin([np.linalg.norm(features - c, axis=1) for c in centres], axis=0)
    assert (nearest == test.labels).mean() > 0.9
    told: list[tuple[int, int]] = []
    first = make_extractor(
        "medical",
        dataset=toy_dataset(),
        cache=tmp_path / "cache",
        on_progress=lambda *numbers: told.append(numbers),
    )
    assert told[0] == (0, short.epochs) and told[-1] == (short.epochs, short.epochs)
    files = list((tmp_path / "cache").glob("*.safetensors"))
    assert len(files) == 1
    # Another test split gives the same extractor, from the cache.
    again = make_extractor("medical", dataset=toy_dataset(7), cache=tmp_path / "cache")
    assert again.key == first.key
    assert list((tmp_path / "cache").glob("*.safetensors")) == files


def test_medical_refuses_what_it_cannot_learn_from() -> None:
    with pytest.raises(InputError, match="give it the data set"):
        make_extractor("medical")
    one = Samples(toy(8, 0).images, np.zeros(8, np.int64))
    with pytest.raises(DataError, match="two classes"):
        make_extractor("medical", dataset=Dataset("one", one, one, one, ("a", "b")))
