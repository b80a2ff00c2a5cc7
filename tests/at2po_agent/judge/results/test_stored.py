import pytest

from at2po_agent.judge.results.stored import Finished, facts
from at2po_agent.training.run_dir import RunDirError
from tests.helpers.evaluations import answered, failed, malformed, write_run


def test_what_a_run_says_of_itself(tmp_path):
    run = Finished.read(write_run(tmp_path / "run", [answered("q1"), failed("q2")], dataset={"split": "demo"}))
    assert (run.benchmark, run.split, run.model, run.demo) == ("HotpotQA", "demo", "tiny", True)
    assert (run.summary.questions, run.summary.errors, run.summary.cost) == (1, 1, None)


def test_prices_of_the_run_give_its_cost(tmp_path):
    run = Finished.read(write_run(tmp_path / "run", [answered("q1")], price={"prompt": 1.0, "completion": 4.0}))
    assert run.summary.cost == pytest.approx((250 * 1 + 25 * 4) / 1e6)


def test_without_texts_every_number_stays(tmp_path):
    path = write_run(tmp_path / "run", [answered("q1"), malformed("q2"), failed("q3")])
    slim = Finished.read(path, texts=False)
    assert slim.summary == Finished.read(path).summary
    assert not any(turn.text or turn.observation or turn.hits for episode in slim.episodes for turn in episode.turns)
    assert not any(episode.messages or episode.prompt for episode in slim.episodes)


def test_facts_are_flat_and_short():
    assert list(facts({"a": {"max_k": 1, "none": None}, "ids": list(range(5000)), "few": [1, 2]})) == [
        ("a · max k", "1"),
        ("ids", "5,000"),
        ("few", "1, 2"),
    ]


def test_what_is_no_evaluation_is_refused(tmp_path):
    with pytest.raises(RunDirError, match=r"no manifest\.json"):
        Finished.read(tmp_path)
    run = write_run(tmp_path / "run", [])
    (run / "episodes.jsonl").write_text("{}\n")
    with pytest.raises(RunDirError, match=r"episodes\.jsonl:1: not an episode record"):
        Finished.read(run)
    (run / "manifest.json").write_text("[")
    with pytest.raises(RunDirError, match="not JSON"):
        Finished.read(run)
