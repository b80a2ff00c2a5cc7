"""The documentation site (``make docs``): Sphinx reads the Markdown pages of this folder and the docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "AT²PO"
author = "The AT²PO authors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "pages"]
exclude_patterns = ["extensions"]

# A page that is not listed is an error, and so is a listed one that does not exist.
navigation = {
    "Start": ["quickstart", "concepts", "troubleshooting", "changelog"],
    "Environments": [
        "environments",
        "own_environment",
        "maze",
        "microsql",
        "search_engines",
        "search_at_scale",
        "data",
    ],
    "Training": ["training", "settings", "metrics", "algorithms", "own_components", "models", "token_drift"],
    "Scale": ["sglang", "multi_process", "gpu", "benchmarks"],
    "Judging and studies": ["judging", "studies", "results", "results/*", "paper_results"],
    "Integrations": [
        "integrations/trainers",
        *(f"integrations/{name}" for name in ("verl", "skyrl", "trl", "slime", "prime_rl")),
        *(f"integrations/{name}" for name in ("inspect", "verifiers", "openenv", "datasets")),
    ],
    "Project": ["architecture", "security"],
    "API": ["api/at2po_agent", "api/method", "api/at2po_env", "api/search_backend", "api/envs"],
}

myst_heading_anchors = 4
myst_enable_extensions = ["alert", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_default_options = {"special-members": "__call__"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "AT²PO"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "default"
