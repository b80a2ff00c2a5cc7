"""Docstrings as they are written here, made ready for reStructuredText.

Indented lines after a blank line are formulas or code and keep their line breaks; two and more lines ``name   words``
are a list of names; the comments beside the fields of a dataclass describe its parameters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import fields

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Example|Examples|Note):$")
_SIZE = re.compile(r"\|(\w+)\|")  # |y|, which would be a substitution
_NUMBER = re.compile(r"^\((\d)\)")  # (2), which would begin a list
_NAME = re.compile(r"(\S+(?:,? \S+)*?) {2,}(\S.*)$")


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite docstrings before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewritten(lines: list[str]) -> list[str]:
    """A docstring with its formulas as literal blocks and its lists of names as lists."""
    escaped = [line if line.startswith(" ") else _NUMBER.sub(r"\\(\1)", _SIZE.sub(r"\\|\1\\|", line)) for line in lines]
    return _formulas(_names(escaped))


def parameters(schema: type) -> list[str]:
    """A section of a docstring for the fields of a dataclass that have a comment; empty where none has."""
    found = fields.meanings(schema).items()
    return ["", "Args:", *(f"    {name}: {_literal(text)}" for name, text in found), ""] if found else []


def _process(app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    lines[:] = rewritten(lines) + (parameters(found) if isinstance(found, type) else [])


def _formulas(lines: list[str]) -> list[str]:
    made: list[str] = []
    margin, literal = "", False
    for at, line in enumerate(lines):
        if line and not line.startswith(" "):
            margin, literal = line, False
        blank_before = at > 0 and not lines[at - 1]
        if line.startswith(" ") and blank_before and not literal and not _holds_its_own(margin):
            made += ["::", ""]
        literal = literal or line.startswith(" ")
        made.append(line)
    return made


def _holds_its_own(margin: str) -> bool:
    """Whether what is indented under a line has a form already: a literal block, a section, an item of a list."""
    return margin.endswith("::") or bool(_SECTION.match(margin)) or margin.startswith(("- ", "* ", ".. ", "="))


def _names(lines: list[str]) -> list[str]:
    """Lists in place of paragraphs whose every line is a name, some spaces and words."""
    made: list[str] = []
    paragraph: list[str] = []
    for line in [*lines, ""]:
        if line:
            paragraph.append(line)
            continue
        found = [_NAME.match(entry) for entry in paragraph]
        if len(found) > 1 and all(found) and not paragraph[0].startswith("="):
            made += [f"- {_code(entry[1])}: {entry[2]}" for entry in found if entry]
        else:
            made += paragraph
        made.append("")
        paragraph = []
    return made


def _code(name: str) -> str:
    return name if "``" in name else f"``{name}``"


def _literal(text: str) -> str:
    """A comment as reStructuredText: nothing in it is markup."""
    return re.sub(r"([\\*`_|\[\]])", r"\\\1", text)
