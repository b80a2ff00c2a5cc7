"""The limit of open files, named where it is what ended something: a connection is a file too."""

from __future__ import annotations

import errno
import resource


def limit_reached(error: BaseException | None) -> str | None:
    """The limit and the ways out, where an error or one that it came from is that no more files can be opened."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            now, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return (
                f"too many open files: a process may have {now:,} (ulimit -n); raise that with `ulimit -n 65536`, or "
                "run less at the same time (concurrency of an evaluation, trees of a training step)"
            )
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
