"""Benchmark files from the Hugging Face hub: FlashRAG's collection, from which the paper's data scripts take theirs.

https://huggingface.co/datasets/RUC-NLPIR/FlashRAG_datasets (CC BY-SA 4.0). ``HF_ENDPOINT`` names another hub. The hub's
own ``hf_hub_download`` starts a file again in every process; here what has arrived is kept beside the target and the
next call goes on from it, because HotpotQA's training file alone has over 500 MB.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from at2po_agent.atomic_files import writing
from at2po_agent.errors import AgentError
from at2po_env.dataset import DataError
from at2po_env.installed import FileSource, Placed, placed

REPOSITORY = "RUC-NLPIR/FlashRAG_datasets"
SPLITS: Mapping[str, tuple[str, ...]] = {
    "hotpotqa": ("train", "dev"),
    "2wikimultihopqa": ("train", "dev"),
    "musique": ("train", "dev"),
    "bamboogle": ("test",),
    "nq": ("train", "dev", "test"),
    "triviaqa": ("train", "dev", "test"),
    "popqa": ("test",),
}
"""The files of the collection, ``NAME/SPLIT.jsonl``, that the benchmarks are made of."""


class HubError(AgentError, RuntimeError):
    """The hub did not give a file; the message says which, why, and how to go on."""


def pull(source: FileSource, split: str, data_dir: Path, *, revision: str = "main") -> Placed | None:
    """Fetch a split into ``data_dir`` as ``flashrag_SPLIT.jsonl``, and read it strictly before it counts.

    Returns:
        What was put there, or None where the very same file is there already.

    Raises:
        HubError: the hub cannot be reached, has no such file, or gave other bytes than it promised.
        DataError: the file is not what the benchmark reads.
        DiskError: it cannot be written.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    address = f"{source.name}/{split}.jsonl"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = hf_hub_url(REPOSITORY, address, repo_type="dataset", revision=revision, endpoint=endpoint)
    target = data_dir / source.name / f"flashrag_{split}.jsonl"
    partial: Path | None = None
    try:
        promised = get_hf_file_metadata(url, token=False, endpoint=endpoint)
        if promised.etag is None or promised.size is None:
            raise HubError(f"{url}: the server gives neither size nor digest of the file; is {endpoint} a hub?")
        if target.is_file() and _digest(target, promised.etag) == promised.etag:
            return None
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".part-{promised.etag[:16]}-{target.name}")
        _fetch(promised.location, partial, promised.size)
    except _network_errors() as error:
        kept = f" {partial.stat().st_size:,} bytes are there already." if partial and partial.exists() else ""
        raise HubError(
            f"{address} could not be fetched from {endpoint}: {_first_line(error)}.{kept} Run the same "
            f"command again to continue; HF_ENDPOINT names another hub. Or download {url} elsewhere, and run "
            f"`at2po-agent data import FILE --as {source.name}/{split}`"
        ) from error
    return _accept(partial, promised.etag, target, source, split, data_dir)


def _fetch(location: str, partial: Path, size: int) -> None:
    from huggingface_hub.file_download import http_get

    if partial.exists() and partial.stat().st_size > size:
        partial.unlink()
    with partial.open("r+b" if partial.exists() else "wb") as file:
        start = file.seek(0, os.SEEK_END)
        http_get(location, file, resume_size=start, expected_size=size, displayed_filename=partial.name[-40:])
        file.flush()
        os.fsync(file.fileno())


def _accept(partial: Path, etag: str, target: Path, source: FileSource, split: str, data_dir: Path) -> Placed:
    found = _digest(partial, etag)
    if found != etag:
        partial.unlink()
        raise HubError(
            f"{target.name} of {source.name} has the digest {found}, but the hub announced {etag}: try again"
        )
    try:
        dataset = source.load_file(partial, split)
    except DataError:
        partial.unlink()
        raise
    os.replace(partial, target)
    return placed(dataset, source, target, data_dir)


def _digest(path: Path, etag: str) -> str:
    """The digest that an etag of this length is: SHA-256 for large files, else git's SHA-1 of a blob."""
    size = path.stat().st_size
    hasher = hashlib.sha256() if len(etag) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _network_errors() -> tuple[type[BaseException], ...]:
    """The errors that a request can raise: the hub's HTTP client changed between releases, but shares a base class."""
    from huggingface_hub.errors import HfHubHTTPError

    return (*HfHubHTTPError.__bases__, OSError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
