"""The agent works on any task: only adapters know that there are search questions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import at2po_agent
import at2po_env

ADAPTERS = {
    "at2po_agent/integrations/inspect_tasks.py",  # a search question is a sample with its gold answers
    "at2po_agent/integrations/trl_search.py",  # the search tool as a typed method
    "at2po_agent/judge/search_qa.py",  # their scores have fields of their own in records
    "at2po_env/__init__.py",
    "at2po_env/integrations/tables.py",  # the columns of Search-R1 are those of questions and answers
    "at2po_env/registration.py",
    "at2po_env/search_qa.py",
}


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("package", [at2po_agent, at2po_env], ids=lambda package: str(package.__name__))
def test_only_adapters_import_the_environment_of_search_questions(package: object) -> None:
    root = Path(package.__path__[0])  # type: ignore[attr-defined]
    knowing = set()
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root.parent).as_posix()
        names = _names(ast.parse(file.read_text(encoding="utf-8")))
        search = ("at2po_env.search_qa", "at2po_env.SearchQAEnv")
        if any(name.startswith(search) for name in names) and not name.startswith("at2po_agent/warmstart/"):
            knowing.add(name)
    assert knowing <= ADAPTERS
