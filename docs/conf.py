"""Sphinx configuration: `make docs`."""

from importlib.metadata import version as installed_version

project = "gradsplinter"
author = "The gradsplinter authors"
project_copyright = f"2026, {author}"
version = release = installed_version("gradsplinter")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
autodoc_member_order = "bysource"
default_role = "py:obj"
exclude_patterns = ["_build"]
html_theme = "furo"
