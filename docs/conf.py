"""The pages of ``scripts/docs``: what stands in docs/, and the API from the docstrings."""

from __future__ import annotations

import ensgan

project = "ensgan"
release = version = ensgan.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.doctest"]
exclude_patterns = ["notebooks", "results"]
html_theme = "furo"
html_title = f"ensgan {version}"
# Headings get anchors, as the pages link to them.
myst_heading_anchors = 3
# Links out of docs/ (sources, figures, the README) are for readers of the repository.
suppress_warnings = ["myst.xref_missing", "myst.header", "misc.highlighting_failure"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
