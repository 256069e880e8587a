"""Text from outside made harmless, one gate for each place where it is shown."""

from __future__ import annotations

import re
from typing import Final

_UNPRINTABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters but tab and new line, signs that turn the direction, half characters."""
_USER: Final = re.compile(r"(\w[\w+.-]*://)[^/\s'\"<>]*@")
_QUERY: Final = re.compile(r"(\w[\w+.-]*://[^\s'\"<>?]*\?)[^\s'\"<>)]+")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
HIDDEN: Final = "***"
"""Stands for credentials."""


def printable(text: str) -> str:
    """Text that no terminal obeys: control characters are shown as ``\\x1b``."""
    return _UNPRINTABLE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def hide_credentials(text: str) -> str:
    """Text without the user names, passwords and queries of the addresses in it.

    A query is hidden whole: which of its values are secret, only the server knows.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text))


def spreadsheet_cell(value: object) -> object:
    """A value that no spreadsheet takes for a formula: such text gets a leading apostrophe."""
    risky = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if risky else value
