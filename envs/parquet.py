"""Rows of Parquet files, streamed with pyarrow, which is an optional dependency: ``pip install 'at2po[parquet]'``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from at2po_env.dataset import DataError

_BATCH = 64  # rows at once
_MOST_BYTES = 64 * 2**20  # of a batch: rows that repeat one long text take no room in the file


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Stream the rows of a file, some dozens in memory at a time.

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
                if batch.nbytes > _MOST_BYTES:
                    raise DataError(f"{path}, at record {index}: {_BATCH} rows have more than {_MOST_BYTES:,} bytes")
                for at in range(batch.num_rows):
                    # One by one, as texts that a dictionary shares become copies.
                    yield from batch.slice(at, 1).to_pylist()
                    index += 1
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        problem = str(error).partition("\n")[0]
        raise DataError(f"{path}, at record {index}: not Parquet that can be read: {problem}") from error
