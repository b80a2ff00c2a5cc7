"""Texts to vectors, by a sentence-transformers model: an optional extra."""

from __future__ import annotations

import hashlib
import importlib
import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from search_backend.base import Passage, SearchError

BATCH = 64  # texts that are embedded together


class Embedder:
    """A model that maps queries and passages to unit vectors; make one with ``open_embedder``.

    Models that want a prefix before queries or passages have it in their own configuration
    (``config_sentence_transformers.json``), where sentence-transformers finds it.
    """

    def __init__(self, name: str, model: Any) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.identity: dict[str, Any] = {
            "model": name,
            "digest": _digest(model),
            "dimension": int(model.get_embedding_dimension()),
            "normalized": True,
        }
        """What decides the vectors, for manifests: name, digest, dimension (numbers of a vector), normalisation."""

    def passages(self, passages: Sequence[Passage]) -> list[list[float]]:
        """Unit vectors of titles and texts, [passages][dimension]."""
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages]
        return self._embed(self._model.encode_document, texts)

    def queries(self, queries: Sequence[str]) -> list[list[float]]:
        """Unit vectors of queries, [queries][dimension]."""
        return self._embed(self._model.encode_query, list(queries))

    def _embed(self, encode: Any, texts: list[str]) -> list[list[float]]:
        with self._lock:  # a tokenizer is not made for several threads
            vectors = encode(texts, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
        # Six digits are more than a 32-bit unit vector needs and half of what it would be sent with.
        return [[round(number, 6) for number in vector] for vector in np.asarray(vectors, np.float64).tolist()]


@lru_cache(maxsize=2)
def open_embedder(model: str) -> Embedder:
    """Load a model once a process.

    Args:
        model: A directory, or a name on the Hugging Face hub; with HF_HUB_OFFLINE=1 nothing is downloaded.

    Raises:
        SearchError: sentence-transformers is not installed, or it cannot load the model.
    """
    try:
        library = importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        raise SearchError(
            "hybrid search needs sentence-transformers, which is not installed: pip install 'at2po[hybrid]'"
        ) from error
    path = Path(model).expanduser()
    try:
        if path.is_dir():
            return Embedder(path.resolve().name, library.SentenceTransformer(str(path), trust_remote_code=False))
        return Embedder(model, library.SentenceTransformer(model, trust_remote_code=False))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SearchError(f"the embedding model {model!r} cannot be loaded: {reason}") from error


def _digest(model: Any) -> str:
    """SHA-256 of weights, vocabulary, modules with their settings, and prompts."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.cpu().float().numpy()).tobytes())
    settings = {
        "modules": [type(module).__name__ for module in model],
        "pooling": [str(getattr(module, "pooling_mode", "")) for module in model],
        "vocabulary": model.tokenizer.get_vocab(),
        "max_seq_length": model.max_seq_length,
        "prompts": model.prompts,
    }
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()
