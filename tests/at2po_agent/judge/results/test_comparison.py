"""Runs are compared over what they share, question by question, and only where they measure the same."""

import pytest

from at2po_agent.judge.results.comparison import compare, group_of
from at2po_agent.judge.results.stored import Finished
from at2po_agent.settings import ConfigError
from tests.helpers.evaluations import answered, failed, write_run


def run(path, answers, name="tiny", **changes):
    """``answers``: question id to right, wrong, or None for an error."""
    episodes = [
        failed(id) if right is None else answered(id, "Walem" if right else "Rom") for id, right in answers.items()
    ]
    return Finished.read(write_run(path, episodes, model={"name": name}, questions=list(answers), **changes))


def test_only_common_questions_count(tmp_path):
    first = run(tmp_path / "a", {"q1": True, "q2": False, "q3": True, "q4": True})
    second = run(tmp_path / "b", {"q3": False, "q2": True, "q1": None, "q5": True}, name="big")
    (column,) = compare([first, second]).columns
    assert column.values == ([0.0, 1.0], [1.0, 0.0])  # q2 and q3, in the order of the first run
    assert (column.errors, column.missing) == (1, 2)  # q1; q4 and q5


def test_one_id_of_two_questions_is_nothing_in_common(tmp_path):
    first = run(tmp_path / "a", {"q1": True, "q2": False})
    episodes = [answered("q1", question="Another?"), answered("q2")]
    second = Finished.read(write_run(tmp_path / "b", episodes, model={"name": "big"}, dataset={"digest": "e" * 64}))
    (column,) = compare([first, second], anyway=True).columns
    assert (column.values, column.missing) == (([0.0], [1.0]), 1)


def test_samples_of_a_question_are_averaged(tmp_path):
    episodes = [answered("q1", sample=0), answered("q1", "Rom", sample=1)]
    (column,) = compare([Finished.read(write_run(tmp_path / "a", episodes, samples=2))]).columns
    assert column.values == ([0.5],)


def test_rows_are_models_and_columns_are_in_the_papers_order(tmp_path):
    ids = ["AT2PO-MicroWiki-v0", "AT2PO-NQ-v0", "AT2PO-HotpotQA-v0", "own:Task-v0", "AT2PO-Bamboogle-v0"]
    runs = [run(tmp_path / str(n), {"q": True}, env=id) for n, id in enumerate(ids)]
    more = run(tmp_path / "more", {"q": False}, name="big")
    again = run(tmp_path / "again", {"q": False})
    found = compare([*runs, more, again])
    assert found.rows == ("tiny", "big", "tiny #2")
    assert set(found.again) == {"tiny", "tiny #2"} and found.again["tiny"] != found.again["tiny #2"]
    assert [(column.benchmark, column.group) for column in found.columns] == [
        ("HotpotQA", "multi-hop"),
        ("Bamboogle", "multi-hop"),
        ("NQ", "single-hop"),
        ("MicroWiki", ""),
        ("own:Task-v0", ""),
    ]
    assert found.columns[0].values == ([1.0], [0.0], [0.0])
    assert found.columns[1].values == ([1.0], None, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": {"digest": "e" * 64}}, "dataset.digest"),
        ({"dataset": {"split": "train"}}, "dataset.split: dev → train"),
        ({"search": {"digest": "f" * 64}}, "search.digest"),
        ({"dialect": {"digest": "b" * 64}}, "dialect.digest"),
        ({"limits": {"k": 5}}, "limits.k: 3 → 5"),
        ({"sampling": {"temperature": 1.0}}, "temperature: 0.0 → 1.0"),
        ({"action_format": "native"}, "action_format: tags → native"),
        ({"tree": {"chains": 10}}, "tree: none → "),  # a tree's paths are no independent samples
        ({"metrics": "other/2"}, "metrics: hotpotqa-squad/1 → other/2"),
    ],
)
def test_what_does_not_measure_the_same_is_refused(tmp_path, changes, said):
    runs = [run(tmp_path / "a", {"q": True}), run(tmp_path / "b", {"q": True}, name="big", **changes)]
    with pytest.raises(ConfigError, match=r"HotpotQA: b differs from a in .*--anyway") as refused:
        compare(runs)
    assert said in str(refused.value)
    (reason,) = compare(runs, anyway=True).unlike
    assert said in reason


def test_what_does_not_matter_may_differ(tmp_path):
    changes = {"samples": 4, "code": {"packages": {}}, "price": {"prompt": 1.0}, "sampling": {"seed": 9}}
    runs = [run(tmp_path / "a", {"q": True}), run(tmp_path / "b", {"q": True}, name="big", **changes)]
    assert compare(runs).unlike == ()


def test_nothing_in_common_is_said(tmp_path):
    with pytest.raises(ConfigError, match="a, b have no scored question in common"):
        compare([run(tmp_path / "a", {"q1": True}), run(tmp_path / "b", {"q1": None, "q2": True}, name="big")])


def test_generated_worlds_count_in_no_average():
    assert (group_of("MuSiQue"), group_of("PopQA"), group_of("MicroWiki"), group_of("Own")) == (
        "multi-hop",
        "single-hop",
        "",
        "",
    )
