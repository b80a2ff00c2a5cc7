"""The base of this package's errors."""


class AgentError(Exception):
    """Something that the user can put right; its message says what, where and how."""
