"""How `make docs` builds the site: the guides in this folder, and the API reference from the docstrings."""

import importlib
import pkgutil
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import ganomaly  # from the tree that the site is about

# the package imports it at first use, which autodoc does not notice
vars(ganomaly)["GANomalyDetector"] = ganomaly.GANomalyDetector

project = "ganomaly"
author = copyright = "The ganomaly maintainers"
version = release = ganomaly.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_nb"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = "ganomaly"
html_copy_source = False

nb_execution_mode = "off"  # a test runs the notebooks
myst_heading_anchors = 4  # so that guides can link to each other's sections

default_role = "code"  # `name` in a docstring is code, as in Markdown
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "__version__"}
numpydoc_show_class_members = False  # autodoc documents each member already

# Nothing is fetched while the site is built, so names of other packages have no link.
nitpick_ignore_regex = [("py:.*", r"(?!ganomaly\.).*")]
suppress_warnings = ["config.cache"]  # functions in a setting cannot be cached; each build is a fresh one


def has_all(module: str) -> bool:
    """Whether a module lists in `__all__` what is public, which is then all that its page documents."""
    return hasattr(importlib.import_module(module), "__all__")


def submodules(package: str) -> list[str]:
    """List the modules that the page of a package documents, where the package has no `__all__`."""
    path = getattr(importlib.import_module(package), "__path__", None)
    if path is None or has_all(package):
        return []
    names = [entry.name for entry in pkgutil.iter_modules(path)]
    return [f"{package}.{name}" for name in names if not name.startswith("_")]


autosummary_context = {"has_all": has_all, "submodules": submodules}


def skip_generated_members(app, what, name, member, skip, options):
    """Leave out what scikit-learn and pydantic add to each class."""
    return True if name == "model_config" or re.fullmatch(r"set_\w+_request", name) else None


def show_undocumented_names(app, env, node, contnode):
    """Show a name of this package that has no page without a link; one that does not exist is an error."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("ganomaly."):
        return None
    try:
        pkgutil.resolve_name(target)
    except (ImportError, AttributeError):
        return None
    return contnode


def setup(app):
    """Register the functions above."""
    app.connect("autodoc-skip-member", skip_generated_members)
    app.connect("missing-reference", show_undocumented_names)
