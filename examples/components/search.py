"""A search backend of your own: the passages that hold every word of the query, from a file of JSON lines."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from search_backend import Hit, Manifest, read_passages


class Words:
    """Keeps the passages in memory; everything that decides what they find goes into the manifest."""

    def __init__(self, file: Path) -> None:
        self.texts = [(passage, f"{passage.title} {passage.text}".lower()) for passage in read_passages(file)]
        self.manifest = Manifest("words", sha256(file.read_bytes()).hexdigest(), len(self.texts), "lower case")

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """At most ``k`` hits per query, in the order of the file."""
        return [[Hit(passage, 1.0) for passage, text in self.texts if _holds(text, query)][:k] for query in queries]

    async def asearch(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Nothing here waits."""
        return self.search(queries, k)

    def close(self) -> None:
        """Nothing to release."""


def _holds(text: str, query: str) -> bool:
    return bool(query.split()) and all(word in text for word in query.lower().split())


def open_words(uri: str) -> Words:
    """Open ``examples.components.search:open_words?file=passages.jsonl``, which comes as it was written."""
    return Words(Path(uri.partition("?file=")[2]))
