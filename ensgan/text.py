"""Text from outside made harmless, one gate for each place where it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and new line, signs that turn the direction, half characters."""
# A password may hold a slash: SQLAlchemy reads addresses so.
_USER: Final = re.compile(r"(\w[\w+.-]*://)([^/:@\s'\"<>]*:[^\s'\"<>]*|[^/\s'\"<>]*)@")
_QUERY: Final = re.compile(r"(\w[\w+.-]*://[^\s'\"<>?]*\?)[^\s'\"<>)]+")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
HIDDEN: Final = "***"
"""Stands for credentials."""
PLAIN: Final = "ensgan.plain"
"""Name under which :func:`plainer` is registered as an error handler of encodings."""
_PLAINER: Final = {
    **dict(zip("–—−×·≥≤→█▇▆▅▄▃▂▁", "---x.>>>#%*+=-._", strict=True)),
    **{"±": "+-", "…": "...", "≤": "<=", "≥": ">="},
}


def printable(text: str) -> str:
    """Text without the control characters that terminals obey: they are shown as ``\\x1b``."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def one_line(text: str) -> str:
    """Printable text on one line: what others wrote cannot pass for a line of ours."""
    return printable(" ".join(text.split()))


def markdown(value: object) -> str:
    """A value as text that Markdown and HTML show as it is."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{markdown(key)} {markdown(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(markdown(entry) for entry in value)
    text = one_line(str(value)).replace("&", "&amp;")
    return re.sub(r"([\\`*\[\]<>|#~]|\b_|_\b)", r"\\\1", text).replace("\\<", "&lt;")


def plainer(error: UnicodeError) -> tuple[str, int]:
    """Error handler of encodings that lack a character: a similar ASCII sign, or ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAINER.get(sign, "?") for sign in missing), error.end


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 member``, ``2 members``, ``1,200 images``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def split_address(address: str) -> SplitResult | None:
    """The parts of an address; None for what is none (``http://[::1``, a port above 65535)."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        return None
    return parts


def hide_credentials(text: str, address: str = "") -> str:
    """Text without the user names, passwords and queries of the addresses in it.

    A query is hidden whole: which of its values are secret, only the server knows.

    Args:
        address: one whose credentials are hidden wherever they stand: libraries put pieces of it
            into their messages.
    """
    if parts := split_address(address):
        secrets = [parts.query, parts.netloc.rpartition("@")[0], parts.password or ""]
        secrets += [value for _, value in parse_qsl(parts.query)]
        # The longest first: they hold the shorter ones. A "5" of timeout=5 would hide too much.
        for secret in sorted({*secrets, *map(unquote, secrets)}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN) if len(secret) > 3 else text
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def some(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def spreadsheet_cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula: such text gets a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if risky else value
