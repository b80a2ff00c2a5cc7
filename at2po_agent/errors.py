"""The base of this package's errors, and the error of everything that is configured."""


class AgentError(Exception):
    """Something that the user can put right; its message says what, where and how."""


class ConfigError(AgentError, ValueError):
    """A configuration cannot be used; the message names the key, where it was written and what to do."""
