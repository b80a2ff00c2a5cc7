"""``at2po-agent eval`` from the command line to the files that it leaves, against a real HTTP server."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.judge.episodes.records import read_episodes
from at2po_agent.judge.results.metrics import Summary
from tests.helpers.chat_server import Say, failure, search_then_answer

DEMO = ["eval", "-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "org/m1"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def runs() -> list[Path]:
    return sorted(Path("runs").glob("*")) if Path("runs").is_dir() else []


def test_an_evaluation_leaves_everything_that_is_needed_to_trust_it(serve, capsys):
    server = serve(search_then_answer)
    assert cli.main([*DEMO, "-b", server.url, "-n", "5", "-r", "2", "-c", "3", "env.k=2"]) == 0
    (run,) = runs()
    assert run.name.startswith("AT2PO-HotpotQA-v0--org-m1--")
    records = {record.key: record for record in read_episodes(run)}
    assert set(records) == {(f"demo-{i}", sample) for i in range(5) for sample in range(2)}
    one = records["demo-0", 0]
    assert [turn.action["kind"] for turn in one.turns] == ["search", "answer"]
    assert len(one.turns[0].hits) == 2 and one.turns[0].finish == "stop"
    assert one.recall == len(set(one.gold_titles) & {hit["title"] for hit in one.turns[0].hits}) / len(one.gold_titles)
    assert [message["role"] for message in one.messages] == ["user", "assistant", "user", "assistant"]
    assert one.messages[1]["content"].endswith("</search>")  # the server took it off
    # What is recorded as the conversation is what the server was sent, to the last byte.
    sent = [asked.messages for asked in server.asked if asked.messages[0] == one.messages[0]]
    assert list(one.messages[:3]) in sent
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["questions"] == [f"demo-{i}" for i in range(5)]
    assert (manifest["limits"]["k"], manifest["samples"], manifest["dialect"]["name"]) == (2, 2, "chat")
    assert manifest["model"] == {"name": "org/m1", "base_url": server.url}
    assert manifest["dataset"]["digest"] and manifest["search"]["corpus_digest"] and manifest["code"]["packages"]
    summary = Summary.from_json(json.loads((run / "summary.json").read_text()))
    assert (summary.questions, summary.episodes, summary.errors) == (5, 10, 0)
    assert set(summary.pass_at) == {2}
    out = capsys.readouterr().out
    assert "5 questions, 10 episodes scored, 0 errors" in out
    assert server.most_running <= 3


def test_its_configuration_runs_again_to_the_same_manifest(serve):
    server = serve(search_then_answer)
    assert cli.main([*DEMO, "-b", server.url, "-n", "3", "-T", "0.5", "--seed", "7", "env.k=2"]) == 0
    (first,) = runs()
    assert cli.main(["eval", "--cfg", str(first / "config.yaml")]) == 0
    second = next(run for run in runs() if run != first)
    manifests = [json.loads((run / "manifest.json").read_text()) for run in (first, second)]
    for manifest in manifests:
        manifest.pop("created")
    assert manifests[0] == manifests[1]
    asked = [(asked.body["seed"], asked.messages) for asked in server.asked]
    half = len(asked) // 2
    assert sorted(map(str, asked[:half])) == sorted(map(str, asked[half:]))  # seeds are of question, sample and turn
    assert len({seed for seed, _ in asked}) == half


def test_errors_are_not_scores_and_resume_tries_them_again(serve, capsys):
    broken = ["In which town was the director of the film The Salt Lantern born?"]  # demo-0

    def script(asked):
        if any(question in asked.messages[0]["content"] for question in broken):
            return failure(500, "boom")
        return search_then_answer(asked)

    server = serve(script)
    fast = ["limits.retries=1", "limits.retry_seconds=0.01"]
    assert cli.main([*DEMO, "-b", server.url, "-n", "4", *fast]) == 1
    (run,) = runs()
    before = {record.question_id: record for record in read_episodes(run)}
    failed = before["demo-0"]
    assert (failed.ended, failed.em, failed.recall) == ("error", None, None)
    assert "tried 2 times: HTTP 500: boom" in failed.error
    assert json.loads((run / "summary.json").read_text())["errors"] == 1
    assert f"at2po-agent eval --resume {run}" in capsys.readouterr().out
    broken.clear()
    asked = server.count
    assert cli.main(["eval", "--resume", str(run)]) == 0
    assert server.count == asked + 2  # two turns of the one episode that was missing
    after = {record.question_id: record for record in read_episodes(run)}
    assert after["demo-0"].ended == "answer"
    assert {id_: record for id_, record in after.items() if id_ != "demo-0"} == {
        id_: record for id_, record in before.items() if id_ != "demo-0"
    }
    assert cli.main([*DEMO, "-b", server.url, "-n", "4", "--resume", "limits.retries=1"]) == 0  # finds it, does nothing
    assert server.count == asked + 2
    assert runs() == [run]


@pytest.mark.fault("item 11: all missing data named at once")
def test_all_data_that_is_missing_is_named_at_once_before_anything_runs(serve, capsys, tmp_path, monkeypatch, data_dir):
    """Two lack their files, one comes without passages, and the one that has everything is not even indexed."""
    monkeypatch.setenv("AT2PO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AT2PO_CACHE", str(tmp_path / "cache"))
    for name in ("hotpotqa/hotpot_dev_distractor_v1.json", "bamboogle/bamboogle.csv"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        shutil.copy(data_dir / name, tmp_path / "data" / name)
    server = serve(search_then_answer)
    multi_hop = ["eval", "-e", "multi-hop", "-m", "org/m1", "-b", server.url]
    assert cli.main(multi_hop) == 2
    error = capsys.readouterr().err
    assert "3 of 4 environments lack data, and nothing was run:" in error
    assert "AT2PO-2WikiMultiHopQA-v0: 2WikiMultiHopQA: no data for split 'dev'" in error
    assert "AT2PO-MuSiQue-v0: MuSiQue: no data for split 'dev'" in error
    assert "AT2PO-Bamboogle-v0: " in error and "its records have no contexts to search" in error
    assert "HotpotQA-v0:" not in error.replace("2WikiMultiHopQA", "") and "data pull" in error
    assert server.count == 0 and runs() == [] and not (tmp_path / "cache").exists()
    assert cli.main([*multi_hop, "--search", "embedded:nowhere"]) == 2  # then passages are not missing
    assert "2 of 4 environments lack data" in capsys.readouterr().err
    assert cli.main(["eval", "-e", "musique", "-m", "x", "-b", server.url]) == 2
    assert "MuSiQue: no data for split 'dev'" in capsys.readouterr().err


def test_a_changed_manifest_is_refused_with_what_changed(serve, capsys):
    server = serve(search_then_answer)
    assert cli.main([*DEMO, "-b", server.url, "-n", "2"]) == 0
    (run,) = runs()
    lines = (run / "episodes.jsonl").read_bytes()
    assert cli.main(["eval", "--resume", str(run), "env.k=1", "questions=3", "limits.request_seconds=9"]) == 2
    error = capsys.readouterr().err
    assert "questions: 2 → 3" in error and "limits.k: 3 → 1" in error
    assert error.count("→") == 2  # a time limit decides nothing
    assert (run / "episodes.jsonl").read_bytes() == lines


def test_a_wrong_key_stops_at_once_and_leaves_nothing(serve, capsys, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-a-wrong-and-secret-key")
    server = serve(lambda asked: failure(401, f"Incorrect API key: {asked.headers['authorization']}"))
    assert cli.main([*DEMO, "-b", server.url, "-k", "SOME_KEY", "-c", "1"]) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "Incorrect API key: Bearer [key]" in err
    assert "secret-key" not in out + err
    assert server.count == 1
    assert runs() == []


def test_dry_run_asks_nothing_and_writes_nothing(serve, capsys):
    server = serve(search_then_answer)
    prices = ["model.price_prompt=1", "model.price_completion=2"]
    assert cli.main([*DEMO, "-b", server.url, "-n", "2", "--dry-run", *prices]) == 0
    out = capsys.readouterr().out
    assert "2 of 30 questions" in out and '"role": "user"' in out and "at most" in out
    assert (server.count, runs()) == (0, [])


def test_several_environments_each_get_a_directory(serve):
    server = serve(search_then_answer)
    words = ["eval", "-e", "nq", "-e", "AT2PO-PopQA-v0", "--split", "demo", "-m", "m", "-b", server.url, "-n", "1"]
    assert cli.main(words) == 0
    assert [run.name.split("--")[0] for run in runs()] == ["AT2PO-NQ-v0", "AT2PO-PopQA-v0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "m", "-b", "http://h/v1"], "name an environment"),
        (["-e", "hotpot", "-m", "m", "-b", "http://h/v1"], "no environment or group 'hotpot'"),
        (["-e", "nq", "--split", "demo", "-m", "gpt-9"], "needs its address: -b http://HOST/v1"),
        (["-e", "nq", "--split", "demo", "-m", "m", "-b", "ftp://h"], "give an address such as"),
        (["-e", "nq", "--split", "demo", "-m", "m", "-b", "http://u:pw@h/v1"], "put the key in a variable"),
        (["-e", "nq", "--split", "demo", "-m", "m", "-b", "http://h/v1", "env.dialect=tags"], "chat endpoint"),
        (["-e", "nq", "--split", "demo", "-m", "m", "-b", "http://h/v1", "-k", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (["--resume", "nowhere"], "not the directory of an evaluation"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(words, message, capsys):
    assert cli.main(["eval", *words]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert runs() == []


def test_a_key_given_instead_of_its_variable_is_never_repeated(capsys):
    for key in ("sk-proj-abc123def456", "abcdef0123456789abcdef", "hf_abcDEF123"):
        words = ["eval", "-e", "nq", "--split", "demo", "-m", "m", "-b", "http://127.0.0.1:9/v1", "-k", key]
        assert cli.main(words) == 2
        out, err = capsys.readouterr()
        assert key not in out + err
        assert runs() == []


def test_a_search_that_is_away_is_an_error_of_infrastructure(serve):
    server = serve(search_then_answer)
    away = ["--search", "http://127.0.0.1:9/retrieve", "limits.search_retries=1", "limits.search_retry_seconds=0.01"]
    status = cli.main([*DEMO, "-b", server.url, "-n", "1", *away])
    if runs():
        (record,) = read_episodes(runs()[0])
        assert (record.ended, record.em, len(record.turns), record.completion_tokens > 0) == ("error", None, 1, True)
        assert status == 1
    else:
        assert status == 2  # a backend that is asked for its manifest when it is opened


@pytest.mark.fault("J: no usage is unknown, not 0")
def test_tokens_that_the_endpoint_does_not_count_are_unknown_everywhere(serve, capsys):
    server = serve(lambda asked: replace(search_then_answer(asked), counted=False))
    words = ["-b", server.url, "-n", "2", "model.price_prompt=1", "model.price_completion=1"]
    assert cli.main([*DEMO, *words]) == 0
    # A caption is wrapped at the width of its table.
    out = " ".join(capsys.readouterr().out.split())
    assert "unknown prompt and unknown completion tokens" in out and "tokens/s" not in out and "cost" not in out
    (run,) = runs()
    records = list(read_episodes(run))
    assert {record.completion_tokens for record in records} == {None}
    summary = Summary.from_json(json.loads((run / "summary.json").read_text()))
    assert (summary.prompt_tokens, summary.completion_tokens, summary.cost) == (None, None, None)
    assert "em" in summary.means and not {"prompt_tokens", "completion_tokens", "cost"} & set(summary.means)
    for command in (["view", str(run)], ["rescore", str(run)], ["view", str(run), "--question", "demo-0"]):
        assert cli.main(command) == 0
    assert "None" not in capsys.readouterr().out
    assert cli.main(["view", str(run), "--html", "page.html"]) == 0
    assert cli.main(["compare", str(run), str(run), "--metric", "completion_tokens"]) == 2
    assert "completion_tokens is not known" in capsys.readouterr().err


@pytest.mark.fault("H: turns cut at the token limit")
def test_turns_that_the_token_limit_cut_are_counted_apart_and_name_it(serve, capsys):
    def script(asked):
        if "In which town was the director of the film The Salt Lantern born?" in asked.messages[0]["content"]:
            return Say("I do not know.")
        return Say("<think>long", finish="length")

    server = serve(script)
    assert cli.main([*DEMO, "-b", server.url, "-n", "4"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "3 of 4 episodes had a turn cut at the token limit" in out
    assert "raise limits.max_turn_tokens=512" in out
    (run,) = runs()
    means = json.loads((run / "summary.json").read_text())["means"]
    assert (means["cut"]["mean"], means["malformed"]["mean"]) == (0.75, 0.25)
    assert cli.main(["view", str(run), "--filter", "cut"]) == 0
    assert capsys.readouterr().out.count("demo-") == 3


@pytest.mark.fault("R8: a key in ${oc.env:…} is not stored with its value")
@pytest.mark.parametrize(
    "override", ["request.extra=${oc.env:HKEY}", "request={a: {b: '${oc.env:HOLDER}'}}", "model.name=${oc.env:HKEY}"]
)
def test_a_variable_in_what_is_sent_is_refused_before_anything_is_stored(serve, capsys, monkeypatch, override):
    monkeypatch.setenv("HKEY", "sk-very-secret")
    monkeypatch.setenv("HOLDER", "sk-very-secret")
    server = serve(search_then_answer)
    assert cli.main([*DEMO, "-b", server.url, "-n", "1", override]) == 2
    err = capsys.readouterr().err
    assert "would be stored with its value" in err and err.count("\n") == 1 and "very-secret" not in err
    assert runs() == [] and server.count == 0


@pytest.mark.fault("item 29: terminal escapes and markup from outside")
def test_a_model_s_name_and_a_server_s_message_are_text_on_the_terminal(serve, capsys):
    hostile = "[/red]\x1b[2J\u202e"

    def script(asked):
        return failure(400, hostile) if asked.number == 3 else search_then_answer(asked)

    server = serve(script)
    words = [*DEMO, "-m", hostile, "-b", server.url, "-n", "2", "-c", "1"]
    assert cli.main([*words, "--dry-run"]) == 0
    assert cli.main(words) == 1
    (run,) = runs()
    for command in (["view", str(run)], ["rescore", str(run)], ["compare", str(run)], ["eval", "-m", hostile]):
        assert cli.main(command) in (0, 2)
    shown = "".join(capsys.readouterr())
    assert "[/red]" in shown and not any(character in shown for character in "\x1b\u202e")
