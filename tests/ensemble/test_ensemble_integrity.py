"""An artifact that is not what it says is refused before anything in it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tampering import SNGAN, Change, refused, rewrite

from ensgan.ensemble import (
    MemberSource,
    ensemble_digest,
    load_ensemble,
    unlisted_files,
    verify_folder,
)
from ensgan.ensemble.manifest import manifest_from
from ensgan.ensemble.weights import read_tensor_infos, refuse_non_finite
from ensgan.errors import IntegrityError
from ensgan.files import sha256_file


def test_an_intact_ensemble_passes(folder: Path) -> None:
    manifest = verify_folder(folder)
    assert manifest.member_names == ("SNGAN@20", "SAGAN@10", "Diffusion@1")
    assert set(manifest.files) == {
        "README.md",
        SNGAN,
        "members/SAGAN@10.safetensors",
        "members/Diffusion@1.safetensors",
    }
    assert unlisted_files(folder, manifest) == ()
    (folder / "notes.txt").write_text("mine")
    assert unlisted_files(folder, verify_folder(folder)) == ("notes.txt",)


def test_one_flipped_bit_of_a_weight(folder: Path) -> None:
    content = bytearray((folder / SNGAN).read_bytes())
    content[-5] ^= 1
    (folder / SNGAN).write_bytes(content)
    refused(folder, "SNGAN@20.safetensors is not the file that was published")


def test_weights_changed_between_opening_and_first_use(folder: Path) -> None:
    ensemble = load_ensemble(folder)
    for path in (folder / "members").iterdir():
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match="not the file that was published"):
        ensemble.sample(10)


def test_swapped_members(folder: Path) -> None:
    other = "members/SAGAN@10.safetensors"
    first, second = (folder / SNGAN).read_bytes(), (folder / other).read_bytes()
    (folder / SNGAN).write_bytes(second)
    (folder / other).write_bytes(first)
    refused(folder, "SNGAN@20.safetensors has .* bytes where the manifest says")
    rewrite(folder, lambda value: None)
    refused(folder, "does not hold the tensors that the manifest lists")

    def swap(value: dict[str, Any]) -> None:
        a, b = value["members"][:2]
        a["tensors"], b["tensors"] = b["tensors"], a["tensors"]

    rewrite(folder, swap)
    refused(folder, "the weights of SNGAN@20 do not fit its GAN")


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "members/../../x", "members\\x", "members/a/../b"],
)
def test_path_traversal_in_the_manifest(folder: Path, name: str) -> None:
    def elsewhere(value: dict[str, Any]) -> None:
        value["members"][0]["file"] = name
        value["files"][name] = value["files"].pop(SNGAN)

    rewrite(folder, elsewhere)
    refused(folder, "points to")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 200, "a b", "a\n"])
def test_member_names_that_are_paths(folder: Path, name: str) -> None:
    def rename(value: dict[str, Any]) -> None:
        value["members"][0]["name"] = name
        value["members"][0]["file"] = f"members/{name}.safetensors"

    rewrite(folder, rename)
    refused(folder, "cannot name a member")


def test_links(folder: Path, tmp_path: Path) -> None:
    content = (folder / SNGAN).read_bytes()
    (tmp_path / "elsewhere").write_bytes(content)
    (folder / SNGAN).unlink()
    (folder / SNGAN).symlink_to(tmp_path / "elsewhere")
    refused(folder, "no plain file")
    (folder / SNGAN).unlink()
    refused(folder, "is missing")


def test_a_linked_folder_or_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "members").rename(tmp_path / "moved")
    (folder / "members").symlink_to(tmp_path / "moved")
    refused(folder, "is a link")
    (folder / "ensemble.json").rename(tmp_path / "manifest")
    (folder / "ensemble.json").symlink_to(tmp_path / "manifest")
    refused(folder, "no ensemble.json of its own")


CODE: list[tuple[str, Change, str]] = [
    ("top", lambda v: v.update(entry_point="os:system"), "names no code"),
    ("member", lambda v: v["members"][0].update(module="evil"), "names no code"),
    ("kind", lambda v: v["members"][0].update(kind="evil.module:Class"), "unknown member kind"),
    ("part", lambda v: v["members"][0]["gan"].update(part="os.system"), "unknown GAN part"),
    (
        "inner part",
        lambda v: v["members"][0]["gan"].update(backbone={"part": "subprocess.Popen", "args": 1}),
        "unknown GAN part",
    ),
    ("field", lambda v: v["members"][0]["gan"].update(hook="x"), "unknown field"),
    ("no row", lambda v: v["members"][0].update(gan=None), "has no GAN row"),
    ("wrong kind of part", lambda v: v["members"][0]["gan"].update(backbone=3), "not valid"),
    (
        "huge network",
        lambda v: v["members"][0]["gan"]["backbone"].update(
            {k: 10**9 for k, x in v["members"][0]["gan"]["backbone"].items() if type(x) is int}
        ),
        "not valid|do not fit",
    ),
    ("schema", lambda v: v.update(schema="other"), "not an ensemble manifest"),
    ("version", lambda v: v.update(schema_version=2), "schema version 2"),
    ("missing", lambda v: v.pop("image"), "image"),
    ("weights", lambda v: v["members"][0].update(weight=0.9), "do not sum to 1"),
    ("negative", lambda v: v["members"][0].update(weight=-0.5), "weight"),
    ("twice", lambda v: v["members"].append(v["members"][0]), "same name"),
    ("unlisted", lambda v: v["files"].pop(SNGAN), "must list"),
    ("extra file", lambda v: v["files"].update({"setup.py": v["files"][SNGAN]}), "must list"),
    ("size", lambda v: v["image"].update(size=10**6), "image.size"),
    ("classes", lambda v: v["class_names"].append("x"), "different lengths"),
    ("shares", lambda v: v.update(class_shares=[2.0, -1.0]), "not shares"),
    ("classes", lambda v: v.update(class_names=["normal", "Normal"]), "several classes are call"),
    ("class", lambda v: v.update(class_names=["normal", " "]), "class 1 has no name"),
    ("bank", lambda v: v["members"][2].update(kind="gan"), "has no GAN row"),
]


@pytest.mark.parametrize(("what", "change", "match"), CODE, ids=[row[0] for row in CODE])
def test_manifests_that_name_code_or_nonsense(
    folder: Path, what: str, change: Change, match: str
) -> None:
    rewrite(folder, change)
    refused(folder, match)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(
    folder: Path, sources: list[MemberSource], publish: Callable[..., Path], value: float
) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = load_file(folder / SNGAN)
    name = next(name for name, array in arrays.items() if array.dtype == np.float32)
    arrays[name].reshape(-1)[-1] = value
    save_file(arrays, folder / SNGAN)
    rewrite(folder, lambda value: None)
    refused(folder, f"SNGAN@20.safetensors holds values that are not finite .*'{name}'")
    broken = replace(sources[0], weights_file=folder / SNGAN)
    with pytest.raises(IntegrityError, match="not finite"):
        publish(folder.parent / "other", members=[broken])


def test_large_weights_are_finite(folder: Path, tmp_path: Path) -> None:
    """Their sum overflows; a second look shows that nothing is wrong."""
    from safetensors.numpy import save_file

    save_file({"a": np.full(8, 3e38, np.float32)}, tmp_path / "x.safetensors")
    infos = read_tensor_infos(tmp_path / "x.safetensors")
    refuse_non_finite(tmp_path / "x.safetensors", infos)


def test_manifest_that_is_no_json(folder: Path) -> None:
    path = folder / "ensemble.json"
    for content in (
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"schema": NaN}',
        b'{"a": 1, "a": 1}',
        b"[" * 100_000,
        b"",
    ):
        path.write_bytes(content)
        refused(folder, "ensemble.json")
    path.unlink()
    refused(folder, "it has no ensemble.json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["members", "files", "image", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
@settings(max_examples=20, deadline=None)
def test_no_value_crashes_the_manifest_reader(value: Any) -> None:
    if isinstance(value, dict):
        value = {"schema": "ensgan.ensemble", "schema_version": 1, **value}
    with pytest.raises(IntegrityError):
        manifest_from(value, "x")


def test_the_digest_names_the_whole_artifact(folder: Path) -> None:
    before = ensemble_digest(folder)
    assert before == sha256_file(folder / "ensemble.json")
    rewrite(folder, lambda value: value["metrics"].update(intra_d=2.0))
    assert ensemble_digest(folder) != before
