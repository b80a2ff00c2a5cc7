"""The public names of ``at2po_agent``: there, light until used, and no package's name."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

import at2po_agent
from tests.helpers.places import EXAMPLES, ROOT

HEAVY = ("torch", "transformers", "aiohttp", "openai", "gymnasium", "numpy", "omegaconf")


@pytest.mark.parametrize("name", at2po_agent.__all__)
def test_every_name_resolves_and_is_listed(name: str) -> None:
    value = getattr(at2po_agent, name)
    assert getattr(value, "__name__", name) == name
    assert name in dir(at2po_agent)


def test_the_names_are_few_and_none_is_a_rooms() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "at2po_agent").iterdir()}
    assert len(at2po_agent.__all__) < 26
    assert not rooms & set(at2po_agent.__all__)


def test_every_room_has_its_line_in_the_map() -> None:
    rooms = [path.parent.name for path in (ROOT / "at2po_agent").glob("*/__init__.py")]
    lines = (at2po_agent.__doc__ or "").splitlines()
    assert [room for room in rooms if not any(line.startswith(f"{room} ") for line in lines)] == []


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'at2po_agent' has no attribute 'trian'"):
        at2po_agent.trian  # noqa: B018


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import at2po_agent", HEAVY),
        ("import at2po_agent; at2po_agent.run; at2po_agent.AgentError; dir(at2po_agent)", HEAVY),
        ("import at2po_agent; at2po_agent.load_config", ("torch", "transformers", "openai")),
        ("import at2po_agent; at2po_agent.build", ("torch", "transformers", "openai")),
    ],
)
def test_importing_it_loads_nothing_heavy(code: str, absent: tuple[str, ...]) -> None:
    code += f"\nimport sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "at2po_agent.__version__"}


def test_the_example_of_the_sdk_is_short() -> None:
    lines = (EXAMPLES / "sdk.py").read_text().splitlines()
    ours = [line for line in lines if line.startswith(("import at2po", "from at2po", "from search_backend"))]
    assert len(lines) <= 45 and len(ours) == 2
