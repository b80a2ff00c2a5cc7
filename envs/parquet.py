"""Rows of Parquet files, streamed with pyarrow, which is an optional dependency: ``pip install 'at2po[parquet]'``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from at2po_env.dataset import DataError

# HotpotQA's rows hold ten paragraphs each: a batch of them is a few megabytes.
_BATCH = 512


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Stream the rows of a file, a few hundred in memory at a time.

    Raises:
        DataError: pyarrow is not installed, or the file is not Parquet or damaged.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(
            f"{path}: is Parquet, which is read with pyarrow: pip install 'at2po[parquet]' (or write it as JSON lines)"
        ) from error
    index = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    yield row
                    index += 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        problem = str(error).partition("\n")[0]
        raise DataError(f"{path}, at record {index}: not Parquet that can be read: {problem}") from error
