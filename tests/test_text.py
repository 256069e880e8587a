"""Foreign text shown to people: terminals, spreadsheets, addresses."""

from __future__ import annotations

import codecs

import pytest

from ensgan.text import (
    PLAIN,
    counted,
    hide_credentials,
    markdown,
    one_line,
    plainer,
    printable,
    split_address,
    spreadsheet_cell,
)


def test_what_is_no_address_has_no_parts() -> None:
    for text in ("http://[::1", "http://h:99999", "http://h:port"):
        assert split_address(text) is None
        assert hide_credentials("it failed", text) == "it failed"
    parts = split_address("http://u:p@h:8080/x")
    assert parts is not None and parts.port == 8080


def test_no_terminal_obeys_what_is_printed() -> None:
    evil = "a\x1b]0;PWNED\x1b\\\x1b[2Jb\x9b\u202egpj.exe\x07\r\ud800"
    shown = printable(evil)
    assert shown.isprintable() and "\\x1b]0;PWNED" in shown and "\\x202e" in shown
    assert shown.encode()
    kept = "Größe\t„ü“ 1\n2 🩻"
    assert printable(kept) == kept


def test_what_others_wrote_is_no_line_of_ours() -> None:
    assert one_line("me\n 12:00 FAILED\u2028all\x1b[2J") == "me 12:00 FAILED all\\x1b[2J"


def test_markdown_shows_text_as_it_is() -> None:
    assert markdown("# a\n|b| [x](y) <i>&_c_ `d`\x1b[2J") == (
        r"\# a \|b\| \[x\](y) &lt;i\>&amp;\_c\_ \`d\`\\x1b\[2J"
    )
    assert markdown({"a": 0.12345678, "b*": ["x", 1]}) == r"a 0.123457, b\* x, 1"


def test_one_thing_is_no_plural() -> None:
    shown = [counted(number, "image") for number in (0, 1, 2, 1200)]
    assert shown == ["0 images", "1 image", "2 images", "1,200 images"]


def test_an_encoding_without_a_sign_gets_one_like_it() -> None:
    codecs.register_error(PLAIN, plainer)
    assert "0.5±0.1 – 32×32 ≥ 2 … █ 🩻".encode("ascii", PLAIN) == b"0.5+-0.1 - 32x32 >= 2 ... # ?"
    assert "0.5±0.1 – ü".encode("latin-1", PLAIN) == b"0.5\xb10.1 - \xfc"
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", PLAIN)


@pytest.mark.parametrize(
    "address",
    [
        "http://u:SECRET@127.0.0.1:9",
        "http://SECRET@host/x",
        "https://u:SEC@RET@host",
        "http://127.0.0.1:9?token=SECRET",
        "postgresql+psycopg2://u:SECRET@h/d?password=SECRET",
        "postgresql://u:SEC/RET@h/d",
        "http://u:SE?CRET@h:9/x",
    ],
)
def test_credentials_in_addresses_are_hidden(address: str) -> None:
    shown = hide_credentials(f"MLflow at {address} failed: '{address}', ({address})")
    assert "SECRET" not in shown and "SEC@" not in shown and "RET" not in shown
    assert shown.startswith("MLflow at ") and "failed: '" in shown and shown.count("***") >= 3


def test_pieces_of_an_address_are_hidden_too() -> None:
    """What urllib3 says of a host that does not answer."""
    message = "HTTPConnectionPool(host='h', port=9): with url: /?token=SECRET/api (u:SEC%40RET)"
    shown = hide_credentials(message, "http://h:9?token=SECRET")
    shown = hide_credentials(shown, "http://u:SEC%40RET@h")
    assert "SEC" not in shown and "port=9" in shown


@pytest.mark.parametrize(
    "text", ["a@b", "SNGAN@300", "sqlite:////runs/mlflow.db", "http://h:1/#/x", "why? so = x"]
)
def test_other_text_stays(text: str) -> None:
    assert hide_credentials(text) == text


def test_no_spreadsheet_runs_a_cell() -> None:
    for formula in ("=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert spreadsheet_cell(formula) == f"'{formula}"
    for plain in ("normal", "a=b", "", 3, -0.5, None):
        assert spreadsheet_cell(plain) == plain
