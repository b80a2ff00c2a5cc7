"""Names that stand for code: built in, of installed packages, one's own; and settings that are checked."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest

import search_backend
from at2po_agent.method.algorithms import EXPANSIONS, build
from at2po_agent.method.expansion import Chains
from at2po_agent.settings import ConfigError
from at2po_env.rules import Rules
from at2po_env.tool_rules import ToolRules
from search_backend import SearchError
from search_backend.components import ComponentError

SOURCE = """
import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from at2po_agent.method.expansion import Chains
from at2po_env.dialects import TAGS

@dataclass(frozen=True)
class Mine(Chains):
    width: int = field(default=2, metadata={"at_least": 1})

@dataclass(frozen=True)
class Needs(Chains):
    _: dataclasses.KW_ONLY
    size: int

@dataclass(frozen=True)
class Half:
    leaves: ClassVar[int] = 1
    top_logprobs: ClassVar[int] = 0
    def propose(self, tree):
        return ()

class Loose:
    pass

@dataclass(frozen=True)
class Sync:
    def collect(self, grow, wanted):
        return None

TALK = dataclasses.replace(TAGS, name="talk")

def reward(outcome):
    return 0.5

def opens(uri):
    return [uri]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module ``own_parts`` in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_parts.py").write_text(SOURCE)
    monkeypatch.setitem(sys.modules, "own_parts", None)
    monkeypatch.delitem(sys.modules, "own_parts")
    return tmp_path


def install(folder: Path, name: str, points: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with entry points, in a folder of its own on the path."""
    info = folder / f"site-{name}" / f"{name}-1.2.3.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n")
    (info / "entry_points.txt").write_text(f"[at2po.components]\n{points}\n")
    monkeypatch.syspath_prepend(info.parent)


def test_a_component_beside_the_user_is_named_by_its_module(own: Path) -> None:
    algorithm = build("at2po", {"name": "own_parts:Mine", "n": 3, "width": 5})
    assert (algorithm.expansion.n, algorithm.expansion.width, algorithm.expansion.leaves) == (3, 5, 3)  # type: ignore
    (kind, origin), *rest = algorithm.origins().items()
    digest = hashlib.sha256((own / "own_parts.py").read_bytes()).hexdigest()
    assert (kind, rest) == ("expansion", [])
    assert (origin.name, origin.module, origin.version, origin.sha256) == ("own_parts:Mine", "own_parts", None, digest)


def test_an_installed_package_brings_components_by_plain_names(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = "expansion.mine = own_parts:Mine\ndialect.talk = own_parts:TALK\nsearch.mine = own_parts:opens"
    install(own, "brings", points, monkeypatch)
    algorithm = build("at2po", {"name": "mine", "width": 4})
    assert algorithm.expansion.width == 4  # type: ignore[attr-defined]
    assert algorithm.origins()["expansion"].version == "1.2.3"
    rules = Rules.of(dialect="talk")
    assert rules.dialect.name == "talk" and rules.origins["dialect"].name == "talk"
    with pytest.raises(SearchError, match="search: what mine returned is no SearchBackend: it has no asearch"):
        search_backend.open("mine:anything")
    with pytest.raises(ConfigError, match=r"there is no 'min'; did you mean mine\? known: entropy, .*mine"):
        build("at2po", {"name": "min"})


def test_two_packages_with_one_name_are_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(own, "first", "expansion.mine = own_parts:Mine", monkeypatch)
    install(own, "second", "expansion.mine = own_parts:Half", monkeypatch)
    with pytest.raises(ComponentError, match=r"two installed packages bring 'expansion\.mine'"):
        EXPANSIONS.find("mine", "x")


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        ("expansion", {"name": "own_part:Mine"}, r"expansion\.name: there is no module 'own_part' in .* or installed"),
        ("expansion", {"name": "own_parts:Mini"}, r"own_parts\.py\) has no 'Mini'; did you mean Mine\?"),
        ("expansion", {"name": "own_parts:"}, r"there is no 'own_parts:'"),
        ("expansion", {"name": "own_parts:Mine", "widht": 1}, r"expansion\.widht: .* did you mean width\?"),
        ("expansion", {"name": "own_parts:Mine", "width": "x"}, r"algorithm\.expansion\.width: Value 'x'"),
        ("expansion", {"name": "own_parts:Mine", "width": 0}, r"expansion\.width is 0, it must be at least 1"),
        ("expansion", {"name": "own_parts:Mine", "n": 0}, r"algorithm\.expansion: n is 0"),
        ("expansion", {"name": "own_parts:Needs"}, r"expansion\.size is not set, and own_parts:Needs has no default"),
        ("expansion", {"name": "own_parts:Half"}, r"is no Expansion: its propose does not take \(tree, rng\)"),
        ("expansion", {"name": "own_parts:Loose"}, r"is a class but not a dataclass"),
        ("credit", {"name": "own_parts:Half"}, r"credit: own_parts:Half is no Credit: it has no __call__"),
        ("credit", {"name": "own_parts:reward"}, r"is no Credit: its __call__ does not take \(tree, rewards\)"),
        ("groups", {"name": "own_parts:Sync"}, r"is no Groups: its collect is no async function"),
    ],
)
def test_what_is_wrong_is_one_error_that_names_the_key(
    own: Path, section: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build("at2po", **{section: settings})


def test_what_goes_wrong_inside_a_module_keeps_its_error(own: Path) -> None:
    (own / "own_broken_parts.py").write_text("import a_package_that_is_missing")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        EXPANSIONS.find("own_broken_parts:Mine", "x")


def test_rewards_and_dialects_are_named_and_changed_in_settings(own: Path) -> None:
    rules = Rules.of(dialect={"name": "own_parts:TALK", "answer": "say"}, reward="own_parts:reward")
    assert (rules.dialect.name, rules.dialect.answer) == ("talk", "say")
    assert {kind: origin.name for kind, origin in rules.origins.items()} == {
        "dialect": "own_parts:TALK",
        "reward": "own_parts:reward",
    }
    assert Rules.of(dialect={"name": "tags", "answer": "say"}).origins == {}
    assert ToolRules.of({"name": "tags", "answer": "say"}).dialect.answer == "say"
    for wrong, message in (
        ({"dialect": "own_parts:reward"}, "own_parts:reward is no Dialect: it is a function"),
        ({"dialect": {"name": "tags", "anser": "x"}}, r"dialect\.anser: .* did you mean answer\?"),
        ({"dialect": {"answer": "x"}}, r"dialect\.name is not set; known: tags"),
        ({"reward": {"name": "em", "cost": 1}}, r"reward\.cost: em has no settings"),
    ):
        with pytest.raises(ValueError, match=message):
            Rules.of(**wrong)
    with pytest.raises(ValueError, match="is no ToolDialect: it is a Dialect"):
        ToolRules.of("own_parts:TALK")


def test_a_search_backend_is_opened_by_a_function_of_ones_own(own: Path) -> None:
    with pytest.raises(SearchError, match=r"own_parts:opens returned is no SearchBackend"):
        search_backend.open("own_parts:opens?x=1")
    with pytest.raises(SearchError, match=r"there is no module 'embeded' in .*known: .*embedded:"):
        search_backend.open("embeded:folder")
    uri = search_backend.tape_uri("t", mode="record", over="own_parts:opens?x=1")
    origin = search_backend.origin(uri)
    assert origin is not None and origin.name == "own_parts:opens"
    assert search_backend.origin("embedded:folder") is None


def test_builtin_names_come_first(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(own, "shadows", "expansion.chains = own_parts:Mine", monkeypatch)
    assert EXPANSIONS.find("chains", "x") is Chains
