"""How Sphinx builds the docs of daglite."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "daglite"
author = "daglite contributors"
project_copyright = "daglite contributors"
release = installed_version("daglite")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"daglite {release}"
