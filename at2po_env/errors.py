"""The errors of this package that the user can put right."""


class EnvError(Exception):
    """The base of this package's errors: something that the user can put right; the message says what and how."""


class SnapshotError(EnvError, ValueError):
    """A snapshot cannot be used: its content was changed, or it belongs to another corpus or other rules."""


class ForkError(EnvError):
    """An environment cannot be forked, or not in the way that was chosen."""


class ToolUnavailable(EnvError):
    """The server behind a tool cannot be reached, or is gone; taking the same turn again may help."""
