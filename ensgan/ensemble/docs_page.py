"""A page that says what the service answers, made from its OpenAPI document alone.

It loads nothing: no script, no style or font of another host, so it also reads without network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Sent with the page: nothing may be loaded or run, whatever got into it."""

_STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 52rem; padding: 1.5rem;
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h2 { margin: 2rem 0 .3rem; padding-top: .6rem; border-top: 1px solid #8886; font-size: 1.2rem; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
th, td { padding: .25rem 1rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #8884; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8886; }
"""


def docs_page(schema: Mapping[str, Any]) -> str:
    """HTML of the operations in an OpenAPI document, with an example of each.

    Args:
        schema: the document; request bodies are objects with ``properties``.
    """
    info = schema["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>The same for machines: <a href="openapi.json">openapi.json</a>. Where a token is set, '
        "send it with every request but those of <code>/health</code> and of this page: "
        "<code>Authorization: Bearer TOKEN</code>.</p>",
    ]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(info['title'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{escape(method)} {escape(path)}</code></h2>"
    yield f"<p>{escape(operation.get('description', operation.get('summary', '')))}</p>"
    content = operation.get("requestBody", {}).get("content", {})
    for kind, entry in content.items():
        fields = entry["schema"]["properties"]
        required = entry["schema"].get("required", ())
        yield f"<p>The body is <code>{escape(kind)}</code> with</p>"
        yield _table(
            ("field", "type", "default", "meaning"),
            [
                (
                    name,
                    _type(field),
                    "needed" if name in required else json.dumps(field.get("default")),
                    field.get("description", ""),
                )
                for name, field in fields.items()
            ],
        )
    answers = [(code, answer["description"]) for code, answer in operation["responses"].items()]
    yield _table(("answer", "when"), answers)
    yield f"<pre>{escape(_example(method, path, content))}</pre>"


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return " or ".join(json.dumps(value) for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    return str(field.get("type", "any"))


def _example(method: str, path: str, content: Mapping[str, Any]) -> str:
    """A command line that needs the address of the service in ``URL``."""
    if method == "GET":
        return f'curl "$URL{path}"'
    body = "".join(
        f" \\\n    -H 'Content-Type: {kind}' -d '{{\"n\": 4, \"seed\": 1}}'" for kind in content
    )
    return f'curl -X {method} "$URL{path}"{body}'


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return "<table>\n" + "\n".join(lines) + "\n</table>"
