"""Measures of the code itself: sizes, names, types, comments, and which package imports which.

python scripts/measure_code.py                     a table of ensgan/
python scripts/measure_code.py PATH --json         another tree, one JSON object
python scripts/measure_code.py --limits            exit 1 where the house's own limits are passed
python scripts/measure_code.py --diagram           Mermaid text of the imports between packages
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"files": 230, "code": 23_500, "files in a package": 20, "lines in a file": 350}
LAYOUT_TOKENS = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Module:
    """One file, parsed."""

    path: Path
    name: str
    text: str = field(repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def docstring_lines(self) -> set[int]:
        lines: set[int] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Module, *DEFINITIONS)) and ast.get_docstring(node) is not None:
                first = node.body[0]
                lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        return lines

    @cached_property
    def code_and_comments(self) -> tuple[set[int], int]:
        """Lines with code (no blanks, comments, docstrings), and how many comments."""
        code: set[int] = set()
        comments = 0
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                comments += 1
            elif token.type not in LAYOUT_TOKENS:
                code.update(range(token.start[0], token.end[0] + 1))
        return code - self.docstring_lines, comments

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))

    @property
    def identifiers(self) -> Iterator[str]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.arg):
                yield node.arg

    def imports(self, known: set[str], *, at_start: bool) -> set[str]:
        """Modules of the tree that this one imports; ``at_start``: when it is imported itself."""
        nodes = self.tree.body if at_start else ast.walk(self.tree)
        names: set[str] = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        return (names & known) - {self.name}


def read_tree(root: Path) -> list[Module]:
    """All modules below a folder, by name."""
    modules = []
    for path in sorted(root.rglob("*.py")):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        modules.append(Module(path, name.removesuffix(".__init__"), path.read_text()))
    return modules


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = [stack.pop()]
            while group[-1] != node:
                group.append(stack.pop())
            if len(group) > 1:
                groups.append(sorted(group))

    for node in list(graph):
        if node not in order:
            visit(node)
    return groups


def package_of(name: str) -> str:
    """The first two parts of a module's name: ``ensgan.zoo``."""
    return ".".join(name.split(".")[:2])


def package_graph(modules: Iterable[Module], root: str, *, at_start: bool) -> dict[str, set[str]]:
    """Which packages of the tree import which; the root module itself is left out."""
    modules = list(modules)
    known = {module.name for module in modules}
    graph: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        package = package_of(module.name)
        if package == root:
            continue
        graph[package] |= {
            package_of(other) for other in module.imports(known, at_start=at_start)
        } - {package, root}
    return dict(graph)


def measure(root: Path) -> dict[str, object]:
    """All figures of a tree."""
    modules = read_tree(root)
    known = {module.name for module in modules}
    sizes = [module.text.count("\n") for module in modules]
    code = sum(len(module.code_and_comments[0]) for module in modules)
    comments = sum(module.code_and_comments[1] for module in modules)
    functions = [function for module in modules for function in module.functions]
    lengths = sorted((f.end_lineno or f.lineno) - f.lineno + 1 for f in functions)
    arguments = [
        argument
        for f in functions
        for argument in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]
    public = [node for module in modules for node in public_definitions(module.tree)]
    per_package = Counter(
        module.path.parent.relative_to(root.parent).as_posix() for module in modules
    )
    largest, most = per_package.most_common(1)[0]
    names = [name for module in modules for name in module.identifiers]
    module_graph = {module.name: module.imports(known, at_start=True) for module in modules}
    return {
        "files": len(modules),
        "lines": sum(sizes),
        "code": code,
        "docstring lines": sum(len(module.docstring_lines) for module in modules),
        "comments per 100 code": round(100 * comments / code, 1),
        "file median": statistics.median(sizes),
        "lines in a file": max(sizes),
        "function median": statistics.median(lengths),
        "function p90": lengths[len(lengths) * 9 // 10],
        "function max": lengths[-1],
        "functions over 40 lines, %": share([length > 40 for length in lengths]),
        "public names documented, %": share([bool(ast.get_docstring(node)) for node in public]),
        "arguments typed, %": share([argument.annotation is not None for argument in arguments]),
        "returns typed, %": share([f.returns is not None for f in functions]),
        "mean identifier": round(sum(map(len, names)) / len(names), 2),
        "largest package": largest,
        "files in a package": most,
        "circles of modules": circles(module_graph),
        "circles of packages": circles(package_graph(modules, root.name, at_start=True)),
    }


def public_definitions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Classes, functions and methods by public names; what lies inside a function has none."""
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node)


def share(flags: list[bool]) -> float:
    """How many are true, in per cent."""
    return round(100 * sum(flags) / max(len(flags), 1), 1)


def passed_limits(figures: dict[str, object]) -> list[str]:
    """One sentence per limit of the house that the figures pass."""
    problems = [
        f"{name}: {figures[name]}, at most {limit}"
        for name, limit in LIMITS.items()
        if float(str(figures[name])) > limit
    ]
    problems += [
        f"{kind}: {' <-> '.join(group)}"
        for kind in ("circles of modules", "circles of packages")
        for group in figures[kind]  # type: ignore[attr-defined]
    ]
    return problems


def diagram(root: Path) -> str:
    """The imports between packages as Mermaid text, without those that follow from others."""
    graph = package_graph(read_tree(root), root.name, at_start=False)

    def reachable(start: str, without: str) -> set[str]:
        waiting = [other for other in graph.get(start, ()) if other != without]
        seen: set[str] = set()
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                waiting += graph.get(node, ())
        return seen

    lines = ["graph TD"]
    for package in sorted(graph):
        for other in sorted(graph[package]):
            if other not in reachable(package, other):
                lines.append(f"    {package.split('.')[1]} --> {other.split('.')[1]}")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", type=Path, default=ROOT / "ensgan")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--diagram", action="store_true")
    given = parser.parse_args()
    if given.diagram:
        print(diagram(given.path.resolve()))
        return 0
    figures = measure(given.path.resolve())
    problems = passed_limits(figures)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    if given.limits:
        for problem in problems:
            print(problem, file=sys.stderr)
        return int(bool(problems))
    return 0


if __name__ == "__main__":
    sys.exit(main())
