import io
import uuid

import gymnasium
import pytest
from rich.console import Console

from at2po_agent.planning.gates import gates
from at2po_agent.settings import ConfigError
from at2po_env.dataset import Dataset
from at2po_env.rules import Rules
from at2po_env.scripts import Baseline
from at2po_env.search_qa import SearchQAEnv, group_of
from at2po_env.state import Question
from at2po_env.tasks import Metric
from at2po_env.tool_env import ToolEnv
from at2po_env.tool_rules import ToolRules, ToolTask
from envs.microwiki import BENCHMARK
from examples.number_game import add, double, reached, stop
from search_backend.base import Passage
from search_backend.embedded.backend import EmbeddedIndex

PASSAGES = [
    Passage("p0", "Oslo", "Oslo lies in Norway."),
    Passage("p1", "Norway", "The king of Norway is Harald."),
    Passage("p2", "Lima", "Lima lies in Peru."),
]


def hop(n: int, *titles: str) -> dict:
    plan = {"Oslo": "Oslo lies", "Norway": "Norway king", "Lima": "Lima lies"}
    passages = {passage.title: passage.id for passage in PASSAGES}
    return {"hops": n, "plan": [plan[t] for t in titles], "passages": [passages[t] for t in titles], "type": "bridge"}


TEST = [
    Question("a", "Where does Oslo lie?", ("Norway",), metadata=hop(1, "Oslo")),
    Question("b", "Where does Lima lie?", ("Peru",), metadata=hop(1, "Lima")),
    Question("c", "Who is king where Oslo lies?", ("Harald",), metadata=hop(2, "Oslo", "Norway")),
    Question("d", "Who is king of Norway?", ("Harald",), metadata=hop(1, "Norway")),
]
TRAIN = [Question("t", "Who is king of Sweden?", ("Harald",)), Question("u", "Where does Cusco lie?", ("Peru",))]


@pytest.fixture
def register(tmp_path):
    """Registers an environment over given questions and passages, and gives its id."""
    ids = []

    def under(train=TRAIN, test=TEST, passages=PASSAGES, **fixed) -> str:
        index = EmbeddedIndex.build(tmp_path / f"index-{len(ids)}", passages)
        splits = {"train": Dataset.of(train, split="train"), "test": Dataset.of(test, split="test")}
        ids.append(f"Gates{uuid.uuid4().hex}-v0")
        gymnasium.register(
            ids[-1], entry_point=lambda split, **kwargs: SearchQAEnv(splits[split], index, Rules.of(**fixed, **kwargs))
        )
        return ids[-1]

    yield under
    for id_ in ids:
        del gymnasium.registry[id_]


def by_name(report):
    return {gate.name: gate for gate in report.gates}


def test_the_tiny_world_passes_its_gates_by_the_margins_of_its_design(register):
    train, test = (BENCHMARK.load(split, None, world="tiny").questions for split in ("train", "test"))
    report = gates(register(train, test, BENCHMARK.passages("test", None, world="tiny")), k=1, dialect="bare")
    measured = by_name(report)
    assert report.counts == {"1 hop": 35, "2 hops": 37, "3 hops": 20, "comparison": 8}
    assert measured["oracle"].mean >= 0.98
    assert measured["no search"].mean <= 0.05
    assert measured["no search"].groups["2 hops"] == 0
    assert report.passed


def test_the_guesser_is_the_best_that_can_be_had_without_searching(register):
    # "Harald", the answer of one training question of two, is right for c and d; nothing else gets more than b and d.
    guess = by_name(gates(register(), k=1))["no search"]
    assert guess.mean == 0.5
    assert dict(guess.groups) == {"1 hop": pytest.approx(1 / 3), "2 hops": 1.0}
    assert not guess.passed
    # "Peru" where a place is asked for and "Harald" where a king is: both right, which no fixed answer is.
    assert by_name(gates(register(test=[TEST[1], TEST[3]]), k=1))["no search"].mean == 1.0


def test_the_guesser_learns_what_each_form_of_question_wants(register):
    train = [
        Question("1", "Which river is longer, River Aa or River Ob?", ("River Ob",)),
        Question("2", "Who rules the whole world?", ("Nobody",)),
        Question("3", "Is it true that Rome fell?", ("yes",)),
    ]
    test = [
        Question("1", "Which river is longer, River Nile or River Po?", ("River Po",)),
        Question("2", "Who rules the whole sea?", ("Nobody",)),
        Question("3", "Is it true that Troy fell?", ("yes",)),
    ]
    guess = by_name(gates(register(train, test)))["no search"]
    assert guess.mean == 1.0
    assert "form" in guess.how


def test_the_oracle_earns_nothing_where_a_search_misses_its_passage(register):
    complete = by_name(gates(register(), k=1))["oracle"]
    assert (complete.mean, dict(complete.groups)) == (1.0, {"1 hop": 1.0, "2 hops": 1.0})

    missing = by_name(gates(register(passages=PASSAGES[:1] + PASSAGES[2:]), k=1))["oracle"]
    assert missing.mean == 0.5  # c and d need p1
    assert dict(missing.groups) == {"1 hop": pytest.approx(2 / 3), "2 hops": 0.0}
    assert not missing.passed


def test_the_oracle_is_held_to_the_limits_of_the_environment(register):
    limited = by_name(gates(register(), k=1, max_searches=1))["oracle"]
    assert dict(limited.groups) == {"1 hop": 1.0, "2 hops": 0.0}


def test_the_gates_speak_a_dialect_that_wants_thoughts_and_boxes(register):
    report = gates(register(), k=1, require_think=True, require_boxed=True)
    assert by_name(report)["oracle"].mean == 1.0
    assert by_name(report)["no search"].mean == 0.5


def test_questions_without_a_plan_have_no_oracle(register):
    assert set(by_name(gates(register(test=TRAIN)))) == {"no search"}


def test_a_policy_is_scored_on_the_same_questions_and_must_be_poor_but_not_hopeless(register):
    asked: list[str] = []

    def policy(ids):
        asked.extend(ids)
        return {"a": 1.0, "b": 0.0, "c": 0.0}  # d met an infrastructure error

    report = gates(register(), k=1, policy=policy)
    gate = by_name(report)["policy"]
    assert asked == ["a", "b", "c", "d"]
    assert gate.mean == pytest.approx(1 / 3)
    assert dict(gate.groups) == {"1 hop": 0.5, "2 hops": 0.0}
    assert gate.passed
    for em, passed in ((0.0, False), (1.0, False)):
        given = dict.fromkeys("abcd", em)
        assert by_name(gates(register(), policy=lambda ids, given=given: given))["policy"].passed is passed


def test_only_the_first_questions_are_asked_where_fewer_are_wanted(register):
    assert gates(register(), questions=2).counts == {"1 hop": 2}
    with pytest.raises(ConfigError, match="questions=0"):
        gates(register(), questions=0)


def test_the_table_shows_every_number_and_what_failed(register):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(gates(register(), k=1).to_table())
    lines = console.export_text().splitlines()
    oracle = next(line for line in lines if "oracle" in line)
    guess = next(line for line in lines if "no search" in line)
    assert oracle.count("100.0") == 3 and "yes" in oracle
    assert "50.0" in guess and "0–5" in guess and "NO" in guess


class PlayedNumbers(ToolEnv):
    """The number game with ways to play it, by its first metric or by another one."""

    def baselines(self, fit):
        def adding(n):
            def begin(env, rng):
                goal = int(env.task(env.snapshot().task_id).text)
                turns = iter([f"<add>{goal - 1 if n is None else n}</add>", "<stop></stop>"])
                return lambda: next(turns)

            return begin

        fixed = {f"add {n}": adding(n) for n in range(1, 10)}
        return (
            Baseline("fixed", fixed, low=0.0, high=0.4),
            Baseline("oracle", {"adds": adding(None)}, low=0.95, high=1.0, how="adds what lacks"),
        )


@pytest.fixture
def numbers():
    """Registers the number game with goals from 2 up, and gives its id."""

    def make(split, goals=(2, 2, 3, 9), metrics=PlayedNumbers.metrics):
        tasks = [ToolTask(f"{n}", f"{goal}", state={"number": 1, "goal": goal}) for n, goal in enumerate(goals)]
        env = PlayedNumbers([add, double, stop], tasks, reached, ToolRules.of("bare", ends=("stop",)))
        env.metrics = metrics
        return env

    gymnasium.register("GatesNumbers-v0", entry_point=make)
    yield "GatesNumbers-v0"
    del gymnasium.registry["GatesNumbers-v0"]


def test_the_gates_of_any_task_are_its_baselines_by_its_first_metric(numbers):
    report = gates(numbers)
    measured = by_name(report)
    assert (measured["fixed"].mean, measured["fixed"].how) == (0.5, "best of 9 ways to play: add 1")
    assert (measured["oracle"].mean, measured["oracle"].how) == (1.0, "adds what lacks")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.to_table())
    text = " ".join(console.export_text().split())
    assert "GatesNumbers-v0, test: success in % on 4 tasks" in text
    assert "()" not in text and "(4)" not in text  # there are no groups


def test_a_metric_that_is_no_share_is_shown_as_it_is_and_a_policy_may_reach_any(numbers):
    report = gates(numbers, metrics=(Metric("turns"), Metric("success", share=True)), policy=lambda ids: {"0": 7.5})
    policy = by_name(report)["policy"]
    assert policy.mean == 7.5 and policy.passed
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.to_table())
    row = next(line for line in console.export_text().splitlines() if "policy" in line)
    assert [cell.strip() for cell in row.split("│")[1:5]] == ["policy", "7.5", "any", "yes"]


def test_an_environment_without_baselines_needs_a_policy():
    with pytest.raises(ConfigError, match="has nothing to measure: its environment has no baselines"):
        gates("examples.number_game:Numbers-v0")
    scored = gates("examples.number_game:Numbers-v0", policy=lambda ids: dict.fromkeys(ids, 0.25))
    assert [(gate.name, gate.passed) for gate in scored.gates] == [("policy", True)]


def test_another_kind_of_environment_is_refused():
    gymnasium.register("GatesOther-v0", entry_point=lambda split: gymnasium.make("CartPole-v1").unwrapped)
    with pytest.raises(ConfigError, match="GatesOther-v0 is not forkable"):
        gates("GatesOther-v0")
    del gymnasium.registry["GatesOther-v0"]


@pytest.mark.parametrize(
    ("metadata", "group"),
    [
        ({"hops": 1, "type": "single"}, "1 hop"),
        ({"hops": 3, "type": "bridge"}, "3 hops"),
        ({"hops": 2, "type": "comparison"}, "comparison"),
        ({"type": "bridge", "level": "hard"}, "bridge"),  # HotpotQA's records count no hops
        ({}, ""),
    ],
)
def test_questions_are_split_by_hops_and_where_they_are_not_counted_by_type(metadata: dict, group: str) -> None:
    assert group_of(Question("q", "Who?", ("Harald",), metadata=metadata)) == group
