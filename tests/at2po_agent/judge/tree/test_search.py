"""``at2po-agent eval --tree`` from the command line to its files, against HTTP servers; one of them is llama.cpp's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.judge.episodes.records import read_episodes
from at2po_agent.judge.tree.search import sampled
from at2po_agent.method.expansion import EntropyGuided
from tests.at2po_agent.judge.tree.test_policy import said, turns
from tests.helpers.chat_server import failure, search_then_answer

DEMO = ["eval", "--tree", "-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "m"]
SHAPE = ["expansion.chains=2", "expansion.per_round=2", "expansion.rounds=1"]
FAST = ["limits.retries=0"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def runs() -> list[Path]:
    return sorted(Path("runs").glob("*")) if Path("runs").is_dir() else []


def searcher(asked):
    """Searches for the question, then gives one of three answers."""
    if turns(asked) == 0:
        return said("<search>Salt Lantern", tokens=7)
    return said(f"<answer>answer {asked.body.get('seed', 0) % 3}", tokens=5)


def test_a_tree_and_its_chains_leave_table_curve_and_every_path(serve, capsys):
    server = serve(searcher)
    assert cli.main([*DEMO, "-b", server.url, "-n", "3", *SHAPE]) == 0
    (run,) = runs()
    found = sampled(read_episodes(run), EntropyGuided(2, 2, 1))
    assert len(found) == 3
    for one in found.values():
        assert [leaf.tokens for leaf in one.leaves] == [12, 12, 12, 12]  # the branches sampled their searches again
        assert [chain.tokens for chain in one.chains] == [12, 12, 12, 12]
        assert one.chains[:2] == one.leaves[:2]
    records = list(read_episodes(run))
    # Nothing but the probe is generated beside what is recorded: every token is paid for once.
    assert sum(record.completion_tokens for record in records) == sum(
        7 if turns(asked) == 0 else 5 for asked in server.asked[1:]
    )
    result = json.loads((run / "tree.json").read_text())
    assert (result["env"], result["split"]) == (DEMO[DEMO.index("-e") + 1], "demo")
    assert (result["questions"], result["errors"], result["budget"]) == (3, 0, 48)
    assert {name: method["tokens"] for name, method in result["methods"].items()} == {
        "one chain": 12,
        "majority of chains": 48,
        "majority of leaves": 48,
        "best chain (oracle)": 48,
        "best leaf (oracle)": 48,
    }
    assert (result["at"][0], result["at"][-1]) == (12, 48)
    assert "<svg" in (run / "curve.svg").read_text()
    out = capsys.readouterr().out
    assert "majority of leaves" in out and "generated tokens a question" in out
    assert json.loads((run / "manifest.json").read_text())["tree"] == {
        "chains": 2,
        "per_round": 2,
        "rounds": 1,
        "alpha": 0.05,
    }
    assert json.loads((run / "manifest.json").read_text())["sampling"]["temperature"] == 1.0


@pytest.mark.fault("item 15: leaves of a tree are not pooled with its chains")
def test_the_summary_of_trees_is_of_the_chains_that_they_began_with_and_the_cost_of_all_paths(serve):
    prices = ["model.price_prompt=1", "model.price_completion=1000"]
    assert cli.main([*DEMO, "-b", serve(searcher).url, "-n", "1", *SHAPE, *prices]) == 0
    (run,) = runs()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["cost"] == pytest.approx((summary["prompt_tokens"] + 1000 * summary["completion_tokens"]) / 1e6)
    assert (summary["episodes"], set(summary["pass_at"])) == (2, {"2"})
    assert summary["completion_tokens"] == 72 and summary["means"]["completion_tokens"]["mean"] == 12


def test_a_tree_out_of_the_response_cache_is_the_same_tree_and_asks_nothing(serve):
    server = serve(searcher)
    words = [*DEMO, "-b", server.url, "-n", "2", *SHAPE, "cache=answers.db"]
    assert cli.main(words) == 0
    server.asked.clear()
    assert cli.main(words) == 0
    assert not server.asked
    first, second = (
        {(record.question_id, record.sample): record.prediction for record in read_episodes(run)} for run in runs()
    )
    assert first == second
    assert len(set(first.values())) > 1  # the samples of a turn were kept apart
    tables = [json.loads((run / "tree.json").read_text())["methods"] for run in runs()]
    assert tables[0] == tables[1]


def test_rescored_trees_have_another_table_and_curve(serve):
    assert cli.main([*DEMO, "-b", serve(searcher).url, "-n", "2", *SHAPE]) == 0
    (run,) = runs()
    before = json.loads((run / "tree.json").read_text())
    assert before["methods"]["one chain"]["em"]["mean"] == 0
    records = [replace(record, answers=(*record.answers, str(record.prediction))) for record in read_episodes(run)]
    (run / "episodes.jsonl").write_text("".join(record.to_line() for record in records))
    (run / "curve.svg").unlink()
    assert cli.main(["rescore", str(run)]) == 0
    after = json.loads((run / "tree.json").read_text())
    assert after["methods"]["one chain"]["em"]["mean"] == 1
    assert after["budget"] == before["budget"] and "<svg" in (run / "curve.svg").read_text()


def test_shared_turns_are_paid_for_once(serve):
    """A branch at the second turn takes over the first one's tokens."""

    def script(asked):
        if turns(asked) == 2:
            return said("<answer>x", tokens=5)
        return said("<search>Salt Lantern", entropy=3.0 if turns(asked) else 0.1, tokens=7)

    assert cli.main([*DEMO, "-b", serve(script).url, "-n", "1", *SHAPE]) == 0
    (run,) = runs()
    (one,) = sampled(read_episodes(run), EntropyGuided(2, 2, 1)).values()
    assert [leaf.tokens for leaf in one.leaves] == [19, 19, 12, 12]
    assert [chain.tokens for chain in one.chains] == [19, 19, 19, 19]  # 62 are to be spent, four are the first that do
    branch = next(record for record in read_episodes(run) if record.sample == 2)
    assert [turn.completion_tokens for turn in branch.turns] == [0, 7, 5]
    assert branch.logprob == pytest.approx(-(2 * 0.1 + 2 * 3.0 + 1.0) / 5)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (search_then_answer, "gives no log-probabilities"),
        (lambda asked: failure(400, "logprobs is not supported"), "logprobs is not supported"),
    ],
)
def test_an_endpoint_without_logprobs_is_refused_before_anything_runs(serve, capsys, script, why):
    server = serve(script)
    assert cli.main([*DEMO, "-b", server.url, "-n", "3", *SHAPE, *FAST]) == 2
    assert why in capsys.readouterr().err
    assert (server.count, runs()) == (1, [])


@pytest.mark.parametrize(
    ("words", "why"),
    [(["-T", "0"], "temperature above 0"), (["-r", "2"], "leave -r out"), (["expansion.chains=0"], "expansion.chains")],
)
def test_what_makes_no_tree_is_refused(serve, capsys, words, why):
    server = serve(searcher)
    assert cli.main([*DEMO, "-b", server.url, *words]) == 2
    assert why in capsys.readouterr().err
    assert (server.count, runs()) == (0, [])


def test_a_question_that_failed_is_an_error_and_is_grown_again(serve, capsys):
    broken = [True]

    def script(asked):
        is_first = "Salt Lantern born" in asked.messages[0]["content"]  # demo-0; the probe asks for one token
        if broken and is_first and asked.body["max_tokens"] > 1:
            return failure(500, "boom")
        return searcher(asked)

    server = serve(script)
    assert cli.main([*DEMO, "-b", server.url, "-n", "2", *SHAPE, *FAST]) == 1
    (run,) = runs()
    assert "1 questions have no whole tree" in capsys.readouterr().out
    assert json.loads((run / "tree.json").read_text())["questions"] == 1
    lines = (run / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    error = json.loads(next(line for line in lines if b"boom" in line))
    assert (error["question_id"], error["ended"], error["em"]) == ("demo-0", "error", None)
    broken.clear()
    asked = server.count
    assert cli.main(["eval", "--resume", str(run)]) == 0
    assert server.count - asked == 1 + 4 * 2 + 2 * 2  # the probe, a tree of four paths, two further chains
    assert json.loads((run / "tree.json").read_text())["questions"] == 2
    assert (run / "episodes.jsonl").read_bytes().startswith(b"".join(lines))  # nothing was repeated


@pytest.mark.fault("E: a content filter that refuses one question")
def test_a_filter_that_refuses_the_first_question_ends_no_other(serve):
    filtered = failure(400, "The response was filtered", code="content_filter")
    server = serve(lambda asked: filtered if "Salt Lantern born" in asked.messages[0]["content"] else searcher(asked))
    assert cli.main([*DEMO, "-b", server.url, "-n", "2", *SHAPE, *FAST]) == 1
    (run,) = runs()
    assert json.loads((run / "tree.json").read_text())["questions"] == 1


def test_a_torn_question_is_grown_again_to_the_same_paths(serve):
    server = serve(searcher)
    assert cli.main([*DEMO, "-b", server.url, "-n", "2", *SHAPE]) == 0
    (run,) = runs()
    before = {record.key: record.prediction for record in read_episodes(run)}
    lines = (run / "episodes.jsonl").read_bytes().splitlines(keepends=True)
    (run / "episodes.jsonl").write_bytes(b"".join(lines[:-3]) + lines[-3][:50])
    assert cli.main(["eval", "--resume", str(run)]) == 0
    assert {record.key: record.prediction for record in read_episodes(run)} == before


def test_dry_run_bounds_the_tokens_of_trees(serve, capsys):
    server = serve(searcher)
    words = [*DEMO, "-b", server.url, "-n", "2", *SHAPE, "env.max_turns=2", "limits.max_turn_tokens=10", "--dry-run"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "8 in trees (2 chains and 1 rounds of 2 branches a question)" in out
    assert " and 400 completion tokens" in out  # 2 questions × (2 branches + at most 8 chains) × 2 turns × 10
    assert server.count == 0


@pytest.mark.service
def test_a_tree_over_llama_cpp_s_own_server(llama_url):
    words = ["-n", "1", "-c", "4", *SHAPE, "env.on_malformed=continue", "env.max_turns=2", "env.max_searches=1"]
    assert cli.main([*DEMO, "-b", llama_url, *words, "env.k=1", "limits.max_turn_tokens=8"]) == 0
    (run,) = runs()
    (one,) = sampled(read_episodes(run), EntropyGuided(2, 2, 1)).values()
    assert all(path.logprob < 0 for path in one.leaves)
    assert sum(chain.tokens for chain in one.chains) >= one.budget > 0
    for record in read_episodes(run):
        assert [turn.text for turn in record.turns] == [
            message["content"] for message in record.messages if message["role"] == "assistant"
        ]
        assert all(turn.completion_tokens <= 8 for turn in record.turns)


def without_usage(asked):
    return replace_in(searcher(asked), lambda body: body.pop("usage"))


def replace_in(say, change):
    """The answer with a change made in its body."""
    body = json.loads(say.raw)
    change(body)
    return replace(say, raw=json.dumps(body).encode())


@pytest.mark.fault("J: --tree without usage")
def test_a_tree_without_usage_counts_the_tokens_that_have_log_probabilities(serve, capsys):
    server = serve(without_usage)
    assert cli.main([*DEMO, "-b", server.url, "-n", "2", *SHAPE]) == 0
    (run,) = runs()
    assert len(sampled(read_episodes(run), EntropyGuided(2, 2, 1))) == 2
    assert all(record.completion_tokens > 0 for record in read_episodes(run))
    assert {record.prompt_tokens for record in read_episodes(run)} <= {None, 0}


@pytest.mark.fault("K: a log-probability that is null or NaN")
@pytest.mark.parametrize("value", [None, float("nan"), "missing"])
def test_a_token_without_a_log_probability_is_the_error_of_its_question(serve, capsys, value):
    def script(asked):
        def change(body):
            token = body["choices"][0]["logprobs"]["content"][0]
            token["logprob"] = value
            if value == "missing":
                del token["logprob"]

        bad = (
            "In which town was the director of the film The Salt Lantern born?" in asked.messages[0]["content"]
            and turns(asked) == 1
        )
        return replace_in(searcher(asked), change) if bad else searcher(asked)

    server = serve(script)
    assert cli.main([*DEMO, "-b", server.url, "-n", "3", *SHAPE]) == 1
    (run,) = runs()
    errors = [record for record in read_episodes(run) if record.error]
    assert [record.question_id for record in errors] == ["demo-0"]
    assert "gives no log-probability with the token" in errors[0].error
    assert len(sampled(read_episodes(run), EntropyGuided(2, 2, 1))) == 2
    assert "gives no log-probability" in " ".join(capsys.readouterr().out.split())


@pytest.mark.fault("K: a log-probability that is null or NaN")
@pytest.mark.parametrize("value", [None, float("nan"), "x", 1.0, 1e308])
def test_a_bad_log_probability_in_the_first_answer_ends_no_other_question(serve, value):
    def script(asked):
        def change(body):
            body["choices"][0]["logprobs"]["content"][0]["logprob"] = value

        first = "Salt Lantern born" in asked.messages[0]["content"]
        return replace_in(searcher(asked), change) if first else searcher(asked)

    server = serve(script)
    assert cli.main([*DEMO, "-b", server.url, "-n", "3", *SHAPE, *FAST]) == 1
    (run,) = runs()
    assert {record.question_id for record in read_episodes(run) if record.error} == {"demo-0"}
    assert len(sampled(read_episodes(run), EntropyGuided(2, 2, 1))) == 2
