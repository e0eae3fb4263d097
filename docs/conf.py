"""How Sphinx builds the docs of daglite."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

from daglite import Policy
from daglite.policies.code import source

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


NOT_CALLED = (
    "Backend",
    "Call",
    "Context",
    "CurrentCall",
    "ExecutionCallback",
    "MapTaskFuture",
    "Middleware",
    "Task",
    "TaskFuture",
)
"""Classes that no user makes an object of by calling them."""


def shown_signature(app: Any, what: str, name: str, obj: Any, options: Any, *signature: Any) -> Any:
    """A policy's defaults instead of NOT_GIVEN, and dots where what is left out has none."""
    arguments, returned = signature
    if what == "class" and name.rpartition(".")[2] in NOT_CALLED:
        return "", returned
    if arguments is None or "=NOT_GIVEN" not in arguments:
        return arguments, returned
    if isinstance(obj, type) and issubclass(obj, Policy):
        for field, info in obj.model_fields.items():
            default = f"{field}={source(info.default)}"
            arguments = re.sub(rf"\b{field}=NOT_GIVEN", lambda _, text=default: text, arguments)
    return arguments.replace("=NOT_GIVEN", "=..."), returned


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", shown_signature)
