"""Pictures of a front that ``ensgan search`` and ``ensgan select`` write when asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.cli.output import check_output, note
from ensgan.errors import InputError

if TYPE_CHECKING:
    from ensgan.types import Front, FrontPoint

_PLOTS = (".html", ".png")


def check_pictures(plots: Sequence[Path], heat_map: Path | None) -> None:
    """Refuse, before any work, a picture of a kind that cannot be made."""
    for path in plots:
        if path.suffix.lower() not in _PLOTS:
            raise InputError(f"--plot {path}: name a .html (interactive) or a .png file")
    if heat_map is not None and heat_map.suffix.lower() != ".png":
        raise InputError(f"--heat-map {heat_map}: name a .png file")
    check_output(*plots, heat_map)


def write_pictures(
    front: Front,
    plots: Sequence[Path],
    heat_map: Path | None,
    selected: FrontPoint | None = None,
) -> None:
    """Write the front as plots and the members on it as a heat map."""
    from ensgan.files import atomic_path
    from ensgan.report.figures import front_png
    from ensgan.report.page import front_html
    from ensgan.report.pictures import membership_png

    contents: dict[Path, bytes] = {}
    for path in plots:
        if path.suffix.lower() == ".html":
            contents[path] = front_html(front, selected).encode()
        else:
            contents[path] = front_png(front, selected)
    if heat_map is not None:
        contents[heat_map] = membership_png(front)
    for path, content in contents.items():
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        note(f"wrote {path}")
