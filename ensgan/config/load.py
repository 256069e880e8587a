"""Reading a sweep file, within limits and so that all its problems are reported at once."""

from __future__ import annotations

import copy
import difflib
import importlib.metadata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic import BaseModel, ValidationError

from ensgan.config.spec import SweepSpec
from ensgan.config.vary import VaryError
from ensgan.errors import ConfigError, DataError, InputError, problem_of
from ensgan.files import read_text
from ensgan.inputs import kind

if TYPE_CHECKING:  # late: `ensgan status` reads no YAML
    import yaml

KnownNames: TypeAlias = Mapping[str, Collection[str]]
"""Registry kind (``"GAN"``, ``"dataset"``, ``"extractor"``, ``"sampler"``, ``"rule"``) → names."""

MAX_TEXT = 1 << 20
"""Most bytes of a sweep file."""

MAX_NODES = 100_000
"""Most values that a text may stand for, aliases written out."""
MAX_DEPTH = 50

# What PyYAML raises for values that look like a date, a number or a tag and are none.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
_LONGEST_SENTENCE = 600  # a name of thousands of signs is no help in a message
_GONE = dict.fromkeys(
    ("select.width", "select.epochs", "select.images_per_epoch"),
    "is no longer a setting, for rule validated trains no networks any more: delete this line",
)
"""Keys that earlier versions had, and what to write instead."""


def load_spec(
    source: Path | Mapping[str, Any],
    *,
    settings: Sequence[str] = (),
    known: KnownNames | None = None,
) -> SweepSpec:
    """Read a sweep file, or take its mapping, and apply ``a.b=value`` settings on top.

    Args:
        source: the YAML file, the bare name of a shipped one (``quickstart``), or what it holds.
        settings: overrides, each ``dotted.key=value`` with a YAML value.
        known: names to check against; None checks the form only.

    Raises:
        ConfigError: with every problem of the file and the settings.
    """
    tree, named, problems = read_spec_tree(source, settings)
    return parse_spec(tree, source=named, known=known, problems=problems)


def read_spec_tree(
    source: Path | Mapping[str, Any], settings: Sequence[str] = ()
) -> tuple[dict[str, Any], str, list[str]]:
    """The mapping of :func:`load_spec` with the settings applied, its name, and their problems.

    Raises:
        ConfigError: as :func:`read_tree`.
    """
    if isinstance(source, Path):
        tree, named = read_tree(source), str(source)
    else:
        tree, named = copy.deepcopy(dict(source)), "sweep"
    return tree, named, [problem for text in settings if (problem := _apply(tree, text))]


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping a YAML file (or a shipped one, by its bare name) holds, unvalidated.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    if kind(path) == "absent":
        shipped = shipped_sweeps()
        if str(path) not in shipped:
            offer = f"; shipped sweeps: {', '.join(sorted(shipped))}" if shipped else ""
            near = difflib.get_close_matches(path.stem, shipped, n=1)
            meant = f": did you mean '{near[0]}'?" if near else offer
            raise ConfigError(str(path), [f"no such file{meant}"])
        path = shipped[str(path)]
    try:
        text = read_text(path, MAX_TEXT)
    except DataError as error:
        raise ConfigError(str(path), [str(error)]) from error
    tree = read_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(str(path), [f"must be a mapping, not {type(tree).__name__}"])
    return tree


def read_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: a single document.
        source: where it comes from, for messages.

    Raises:
        ConfigError: not YAML, a key twice, nested too deeply, or aliases that stand for more than
            :data:`MAX_NODES` values.
    """
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _size(node, source, {}) >= MAX_NODES:
                much = f"stands for more than {MAX_NODES:,} values: aliases repeat one another"
                raise ConfigError(source, [much])
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(source, [f"is not YAML: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise ConfigError(source, [f"is nested deeper than {MAX_DEPTH} levels"]) from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(source, [f"holds a value that cannot be read: {reason[:200]}"]) from error


def _size(node: yaml.Node, source: str, sizes: dict[int, int], depth: int = 0) -> int:
    """How many values a node stands for, aliases written out: nine levels of nine make 400 million.

    A node that several aliases share is looked at once and its size added for each use, so that
    this takes time in proportion to the text.

    Args:
        sizes: by node, those that are known already.
        depth: how deep the node lies.
    """
    from yaml import MappingNode

    if depth > MAX_DEPTH:
        raise ConfigError(source, [f"is nested deeper than {MAX_DEPTH} levels"])
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES  # an alias of itself: no end
        inner = node.value if isinstance(node.value, list) else []
        if isinstance(node, MappingNode):
            _refuse_repeated_keys(node)
            inner = [part for pair in inner for part in pair]
        sizes[id(node)] = 1 + sum(_size(part, source, sizes, depth + 1) for part in inner)
    return sizes[id(node)]


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    from yaml.constructor import ConstructorError

    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    counts = Counter(key for key in keys if isinstance(key, str))
    if repeated := sorted(key for key, count in counts.items() if count > 1):
        problem = f"the key {', '.join(map(repr, repeated))} occurs twice"
        raise ConstructorError(None, None, problem, node.start_mark)


def shipped_sweeps() -> dict[str, Path]:
    """Name → sweep file that came with ensgan, from the checkout or from the installed wheel."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        return {path.stem: path for path in (checkout / "sweeps").glob("*.yaml")}
    # The wheel puts them beside the environment's other shared data (pyproject: data-files).
    files = importlib.metadata.files("ensgan") or []
    shipped = [file for file in files if file.match("ensgan/sweeps/*.yaml")]
    return {file.stem: Path(str(file.locate())) for file in shipped}


def parse_spec(
    tree: Mapping[str, Any],
    *,
    source: str = "sweep",
    known: KnownNames | None = None,
    problems: Sequence[str] = (),
) -> SweepSpec:
    """Validate a mapping.

    Raises:
        ConfigError: with ``problems`` (found before) and all found here.
    """
    try:
        spec = SweepSpec.model_validate(tree, context=dict(known or {}))
    except ValidationError as error:
        items = error.errors(include_url=False)
        sentences = [
            sentence if len(sentence) <= _LONGEST_SENTENCE else sentence[:_LONGEST_SENTENCE] + "…"
            for item in items
            for sentence in _sentences(dict(item))
        ]
        raise ConfigError(source, [*problems, *sentences]) from error
    except RecursionError as error:  # a mapping from Python: files are limited in depth
        raise ConfigError(source, [*problems, "is nested too deeply"]) from error
    if problems:
        raise ConfigError(source, problems)
    return spec


def read_setting(text: str, option: str) -> tuple[str, Any]:
    """Key and YAML value of ``dotted.key=value``.

    Raises:
        InputError: the text has another form; the message names ``option``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{option} '{text}': write it as dotted.key=value")
    try:
        return key, read_yaml(value, option)
    except ConfigError as error:
        raise InputError(f"{option} '{text}': the value {error.problems[0]}") from error


def _apply(tree: dict[str, Any], text: str) -> str | None:
    """Set one dotted key; the problem as a sentence, or None."""
    try:
        key, parsed = read_setting(text, "--set")
    except InputError as error:
        return str(error)
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            return f"--set '{text}': '{parent}' is a value, not a section"
        node = child
    node[last] = parsed
    return None


def _sentences(item: dict[str, Any]) -> list[str]:
    """One pydantic error as sentences: one, but for a section that reports all of its own."""
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, VaryError):
        return [f"{'.'.join(map(str, item['loc']))}{problem}" for problem in cause.problems]
    return [_sentence(item)]


def _sentence(item: dict[str, Any]) -> str:
    """One pydantic error as one sentence: the key, what is wrong, the offending value."""
    location = [str(part) for part in item["loc"]]
    # Branches of a union show up as extra location parts; users know only their own keys.
    # Pydantic writes a wrong key of a mapping as the key and "[key]".
    branches = ("list[", "literal[", "[key]")
    location = [part for part in location if not part.startswith(branches)]
    key = ".".join(location)
    if key in _GONE and item["type"] == "extra_forbidden":
        return f"{key}: {_GONE[key]}"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1, cutoff=0.5)
        hint = f": did you mean '{near[0]}'?" if near else ""
        return f"{key}: unknown key{hint}"
    if item["type"] == "missing":
        return f"{key}: is required"
    return problem_of(item, key)


def _keys(location: Sequence[str]) -> list[str]:
    """The keys the section at ``location`` knows."""
    model: type[BaseModel] = SweepSpec
    for part in location:
        if part in model.model_fields:
            annotation = model.model_fields[part].annotation
            # A section, or the arguments of a list or mapping of sections.
            for kind in (annotation, *get_args(annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    model = kind
    return list(model.model_fields)
