"""The layout of an index directory: tantivy's segments, its analyzer and ``manifest.json``.

``manifest.json`` is written last, so a directory without it was never finished.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import tantivy

from search_backend.analysis import Analyzer
from search_backend.base import CorpusError, Manifest, Passage
from search_backend.outside import read_file, read_json

FORMAT = "at2po-index/1"
MANIFEST_NAME = "manifest.json"
TANTIVY_META = "meta.json"

_ANALYZER_IN_SCHEMA = "at2po"
CONTENT, STORED, RANK = "content", "stored", "rank"


def resolve(directory: str | os.PathLike[str]) -> Path:
    """The absolute path, with ``~`` for the home directory; symbolic links stay as they are."""
    return Path(directory).expanduser().absolute()


def occupied(target: Path) -> bool:
    """Whether something is there that an index must not overwrite: a file, or a directory that is not empty."""
    return target.exists() and (not target.is_dir() or any(target.iterdir()))


def pack(passage: Passage) -> bytes:
    """Id, title and text as UTF-8, each after its length (bytes, 32 bits, big endian); stored, and hashed."""
    parts = [part.encode() for part in (passage.id, passage.title, passage.text)]
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(4, "big"), part)])


def unpack(packed: bytes) -> Passage:
    """The passage that ``pack`` packed."""
    parts: list[str] = []
    start = 0
    while start < len(packed):
        end = start + 4 + int.from_bytes(packed[start : start + 4], "big")
        parts.append(packed[start + 4 : end].decode())
        start = end
    return Passage(*parts)


def create_index(directory: Path, analyzer: Analyzer) -> tantivy.Index:
    """Create an empty index in ``directory``, which exists."""
    schema = tantivy.SchemaBuilder()
    schema.add_text_field(CONTENT, tokenizer_name=_ANALYZER_IN_SCHEMA, index_option="freq")
    schema.add_bytes_field(STORED, stored=True)
    schema.add_unsigned_field(RANK, fast=True)
    index = tantivy.Index(schema.build(), path=str(directory))
    index.register_tokenizer(_ANALYZER_IN_SCHEMA, analyzer.engine)
    return index


def write_manifest(directory: Path, manifest: Manifest, key: str | None) -> None:
    """Seal a finished index: record every file's size and flush all of it to the disk."""
    # tantivy writes some files for the owner only; an index is shared like any other file.
    shared_mode = directory.stat().st_mode & 0o666
    sizes: dict[str, int] = {}
    for file in sorted(directory.iterdir()):
        file.chmod(shared_mode)
        if not file.name.startswith("."):
            sizes[file.name] = file.stat().st_size
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())
    content = {"format": FORMAT, "key": key, "manifest": manifest.to_json(), "files": sizes}
    with (directory / MANIFEST_NAME).open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def is_ours(directory: Path) -> bool:
    """Whether the directory holds an index of this project, of any version and state, and so may be replaced."""
    try:
        content = read_json(read_file(directory / MANIFEST_NAME))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and str(content.get("format")).startswith(FORMAT.split("/")[0] + "/")


def read_manifest(directory: Path) -> tuple[Manifest, str | None]:
    """Return the manifest and the cache key of a finished index, having checked that its files are whole.

    Raises:
        CorpusError: The directory is missing, is no finished index, or a file is missing or of another size.
    """
    if not directory.is_dir():
        raise CorpusError(f"there is no index directory {directory}; build one with: at2po-agent index build")
    path = directory / MANIFEST_NAME
    try:
        content = read_json(read_file(path))
        if content["format"] != FORMAT:
            raise CorpusError(f"{path} has format {content['format']!r}, this version reads {FORMAT!r}; build it again")
        manifest = Manifest.from_json(content["manifest"], counts=("max_query_terms", "title_boost"))
        key, sizes = content["key"], dict(content["files"])
    except FileNotFoundError:
        # Advice to delete is for what an index was begun in; anything else may be dear to somebody.
        begun = (directory / TANTIVY_META).is_file()
        what = "is not a finished index" if begun else "is not an index"
        advice = "delete it and build it again" if begun else "name one that was built, or build one in a new directory"
        raise CorpusError(f"{directory} {what} ({MANIFEST_NAME} is missing); {advice}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path} cannot be read ({error!r}); delete the directory and build it again") from error
    for name, size in sizes.items():
        file = directory / name
        actual = file.stat().st_size if file.is_file() else None
        if actual != size:
            found = "is missing" if actual is None else f"has {actual} bytes instead of {size}"
            raise CorpusError(f"the index {directory} is damaged: {name} {found}; delete it and build it again")
    return manifest, key
