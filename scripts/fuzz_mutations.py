"""Damage for the fuzzer: bytes, trees and the insides of containers, whose checksums are put right.

Every function takes a :class:`random.Random` first; the same state gives the same damage.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from random import Random
from typing import Any

EDGES = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
EDGES += (2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**40, 1e308, 5e-324,
    float("nan"), float("inf"), "", " ", "a", "0", "1e999", ".nan", "~", "null", "../../x", "/",
    "/dev/null", "C:\\x", "\x1b[31mred", "\u202etxt", "\ud800", "\0", "e\u0301", "\U0001f600",
    "x" * 5000, "=1+1", "%s{0}", "[bold]", "file:///x", "models:/a@b", "2026-11-27", "on",
    [], [[]], [None], {}, {"": 0}, {"a": {"b": [1]}}, [0] * 300, {"name": "x"},
)  # fmt: skip
"""Values that readers may not have thought of."""
_WORDS = re.compile(rb"[\w.+-]+")


def damage_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to six changes: bits, bytes, cuts, repeats, edges of integers, a piece of another."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(found) + 1)
        most = rng.choice((1, 2, 4, 16, 64, len(found)))
        end = min(len(found), at + rng.randint(1, max(1, most)))
        action = rng.randrange(9)
        if action == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif action == 1 and at < len(found):
            found[at] = rng.choice((0, 1, 9, 10, 32, 34, 47, 127, 128, 255, rng.randrange(256)))
        elif action == 2:
            del found[at:end]
        elif action == 3:
            found[at:at] = found[at:end] * rng.choice((1, 1, 2, 50))
        elif action == 4:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(EDGES) % (1 << 8 * width)
            found[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif action == 5:
            del found[at:]
        elif action == 6:
            found[at:end] = rng.randbytes(end - at)
        elif action == 7 and others:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            found[at:end] = other[begin : begin + rng.choice((4, 32, 400))]
        else:
            found[at:end] = bytes(end - at)
    return bytes(found[: 1 << 20])


def damage_text(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Words replaced by odd values, lines doubled, dropped, moved or indented; or bytes."""
    if rng.random() < 0.25:
        return damage_bytes(rng, data, others)
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        action = rng.randrange(7)
        words = list(_WORDS.finditer(data))
        if action < 3 and words:
            word = rng.choice(words)
            value = rng.choice((*ODD, rng.choice(words)[0].decode("latin-1")))
            text = value if isinstance(value, str) else json.dumps(value)
            data = data[: word.start()] + _encoded(text) + data[word.end() :]
            continue
        if action == 3:
            lines.insert(at, rng.choice(lines))
        elif action == 4:
            del lines[at]
        elif action == 5:
            lines[at] = rng.choice((b" ", b"  ", b"\t", b"- ", b"#", b"&a ", b"*a ")) + lines[at]
        else:
            rng.shuffle(lines)
        data = b"\n".join(lines)
    return data


def damage_tree(rng: Random, tree: Any) -> Any:
    """A JSON value with one to four of its parts replaced, renamed, doubled or dropped."""
    tree = deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            return deepcopy(rng.choice(ODD))
        holder, key = rng.choice(places)
        action = rng.randrange(8)
        if action < 4:
            holder[key] = deepcopy(rng.choice(ODD))
        elif action == 4:
            other, there = rng.choice(places)
            holder[key] = deepcopy(other[there])
        elif action == 5 and isinstance(holder[key], (int, float)):
            holder[key] = rng.choice((-holder[key], holder[key] * 10, holder[key] + 1, 1e300))
        elif isinstance(holder, dict) and action == 6:
            holder[str(rng.choice(ODD))[:200]] = deepcopy(holder[key])
        else:
            del holder[key]
    return tree


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder (list or object) below a value with each of its keys."""
    keys = (
        list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    )
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def damage_json(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A JSON text damaged as a tree, or as text."""
    if rng.random() < 0.3:
        return damage_text(rng, data, others)
    tree = damage_tree(rng, json.loads(data))
    return _encoded(json.dumps(tree, ensure_ascii=rng.random() < 0.8, indent=rng.choice((None, 2))))


def damage_zip(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A member's content or name changed, the archive's checksums right again; or bytes."""
    if rng.random() < 0.35:
        return damage_bytes(rng, data, others)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(members) or ["x"])
        content = members.pop(name, b"")
        action = rng.randrange(6)
        if action == 0:
            name = rng.choice(("../x.npy", "x", name.upper(), "a" * 300, *members))
        elif action == 1:
            continue
        members[name] = (_damage_array if name.endswith(".npy") else damage_text)(rng, content)
    made = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            # A ZipInfo of its own has no time in it: equal seeds give equal bytes.
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    return made.getvalue()


TYPES = ("|O", "<f8", "<f2", ">i4", "|b1", "<U3", "|S2", "<c16", "<M8[s]", "|V8", "<u8", "<U0", "x")
SHAPES = ("()", "(0,)", "(1,)", "(-1,)", "(2, 3)", "(0, 3)", "(1, 1, 1, 1)", "(99999999999,)", "3")


def _damage_array(rng: Random, data: bytes) -> bytes:
    """The header of an ``.npy``: another type or shape; or its bytes."""
    if rng.random() < 0.4 or not data.startswith(b"\x93NUMPY"):
        return damage_bytes(rng, data)
    end = 10 + int.from_bytes(data[8:10], "little")
    head = data[10:end].decode("latin-1").rstrip()
    kind, shape = rng.choice(TYPES), rng.choice((*SHAPES, f"({rng.choice(EDGES)},)"))
    if rng.random() < 0.6:
        head = re.sub(r"'descr': '[^']*'", f"'descr': '{kind}'", head)
    if rng.random() < 0.6:
        head = re.sub(r"'shape': \([^)]*\)", f"'shape': {shape}", head)
    text, body = head.encode("latin-1") + b"\n", data[end:]
    if rng.random() < 0.5:  # a header that tells the truth gets further
        sizes = [int(number) for number in re.findall(r"-?\d+", head.rpartition("'shape'")[2])]
        width = int((re.findall(r"\d+", head.partition("'shape'")[0]) or ["1"])[0])
        body = (body * 50)[: max(0, min(math.prod(sizes) * width, 1 << 16))]
    return data[:8] + len(text).to_bytes(2, "little") + text + body


def damage_png(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Chunks changed, dropped, doubled or moved, each with its checksum; or bytes."""
    if rng.random() < 0.25:
        return damage_bytes(rng, data, others)
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += length + 12
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(chunks))
        kind, body = chunks[place]
        action = rng.randrange(6)
        if action == 0 and len(chunks) > 1:
            del chunks[place]
        elif action == 1:
            chunks.insert(rng.randrange(len(chunks)), (kind, body))
        elif action == 2:
            extra = rng.choice((b"tRNS", b"PLTE", b"eXIf", b"acTL", b"iCCP", b"zTXt", b"IDAT"))
            chunks.insert(place, (extra, rng.randbytes(rng.choice((0, 1, 6, 50)))))
        else:
            chunks[place] = kind, damage_bytes(rng, body)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def damage_tiff(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Entries of the first directory (little-endian) changed; or bytes."""
    (first,) = struct.unpack("<I", data[4:8])
    if rng.random() < 0.25 or first + 2 > len(data):
        return damage_bytes(rng, data, others)
    found = bytearray(data)
    (count,) = struct.unpack("<H", data[first : first + 2])
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = first + 2 + 12 * rng.randrange(max(count, 1))
        offset, width = rng.choice(((0, 2), (2, 2), (4, 4), (8, 4), (8, 4), (8, 2)))
        value = rng.choice((*EDGES, *range(20), 254, 258, 259, 262, 277, 317, 339, 32773))
        found[at + offset : at + offset + width] = (value % (1 << 8 * width)).to_bytes(
            width, "little"
        )
    return bytes(found)


def damage_dicom(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Elements (explicit, little-endian) changed, dropped or doubled; or bytes."""
    if rng.random() < 0.25:
        return damage_bytes(rng, data, others)
    parts, at = [], 132
    while at + 8 <= len(data):
        is_long = data[at + 4 : at + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF")
        head = 12 if is_long else 8
        size = struct.unpack("<I" if is_long else "<H", data[at + head - (4 if is_long else 2)
                                                            : at + head])[0]  # fmt: skip
        parts.append((data[at : at + head], data[at + head : at + head + size]))
        at += head + size
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(parts))
        head, body = parts[place]
        action = rng.randrange(7)
        if action == 0 and len(parts) > 1:
            del parts[place]
        elif action == 1:
            parts.insert(rng.randrange(len(parts)), parts[place])
        elif action == 2:
            parts[place] = damage_bytes(rng, head), body
        else:
            words = (b"", b"0", b"-1", b"1E400", b"NaN ", b"1\\2\\3", b"\xff" * 8, b"MONOCHROME1 ")
            numbers = [struct.pack("<H", n % 65536) for n in EDGES]
            body = rng.choice((rng.choice(words), rng.choice(numbers), damage_bytes(rng, body)))
            size = struct.pack("<H", len(body) % 65536)
            parts[place] = (head[:6] + size if len(head) == 8 else head[:8]
                            + struct.pack("<I", len(body))), body  # fmt: skip
    return data[:132] + b"".join(head + body for head, body in parts)


def damage_safetensors(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The header damaged as JSON, its length right again; or bytes."""
    if rng.random() < 0.3:
        return damage_bytes(rng, data, others)
    end = 8 + int.from_bytes(data[:8], "little")
    header = damage_json(rng, data[8:end])
    body = data[end:] if rng.random() < 0.8 else damage_bytes(rng, data[end:])
    return len(header).to_bytes(8, "little") + header + body


def damage_words(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A JSON list of words of a command line: values replaced, words dropped or of other lines."""
    words = [str(word) for word in json.loads(data)]
    pool = [str(word) for other in others for word in json.loads(other)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(words) + 1)
        values = [n for n, word in enumerate(words) if n and not word.startswith("-")]
        action = rng.randrange(7)
        if action == 0 and at < len(words):
            del words[at]
        elif action == 1:
            words.insert(at, rng.choice(pool))
        elif action == 2 and at < len(words):
            words[at] = damage_text(rng, _encoded(words[at])).decode("utf-8", "surrogateescape")
        elif action < 5 and values:
            words[rng.choice(values)] = rng.choice(pool)
        else:
            odd = rng.choice(ODD)
            place = rng.choice(values) if values else at
            words[place : place + 1] = [odd if isinstance(odd, str) else json.dumps(odd)]
    return json.dumps([word.replace("\0", "") for word in words]).encode()


def _encoded(text: str) -> bytes:
    with suppress(UnicodeEncodeError):
        return text.encode()
    return text.encode("utf-8", "surrogatepass")


Damage = Callable[[Random, bytes, Sequence[bytes]], bytes]
