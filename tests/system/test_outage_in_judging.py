"""``at2po-agent eval`` on a real Elasticsearch that is killed in the middle of it, and comes back."""

import dataclasses
import json
import threading
from contextlib import closing
from pathlib import Path

import pytest

from at2po_agent.commands import main as cli
from at2po_agent.environments import make_env
from at2po_agent.judge.config import JudgeConfig
from at2po_agent.judge.episodes.local import LocalModel
from at2po_agent.judge.episodes.records import EpisodeRecord, read_episodes
from at2po_agent.policy.loading import resolve_policy
from at2po_agent.rollouts.outages import Outages
from at2po_env.registration import load_benchmark, passages
from search_backend.elastic.load import load_index
from tests.helpers.chat_server import search_then_answer

pytestmark = pytest.mark.service

QUESTIONS = 12


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # where the server is installed
    monkeypatch.setenv("HOME", str(tmp_path))


def demo(uri: str) -> str:
    """Load the demo's passages; returns the digest of the index's manifest."""
    backend = load_index(uri, passages("hotpotqa", ["demo"]))
    backend.close()
    return backend.manifest.digest


def evaluate(uri: str, url: str, *more: str) -> int:
    arguments = ["eval", "-e", "AT2PO-HotpotQA-v0", "--split", "demo", "-m", "org/m1", "-b", url, "--search", uri]
    return cli.main([*arguments, "-n", str(QUESTIONS), "-c", "3", "env.k=2", *more])


def newest() -> Path:
    return max(Path("runs").glob("*"), key=lambda run: (run / "manifest.json").stat().st_mtime_ns)


def outcomes(run: Path) -> dict:
    return {
        record.key: (record.ended, record.em, [hit["id"] for turn in record.turns for hit in turn.hits])
        for record in read_episodes(run)
    }


def killing(kill):
    """The script of a model that searches once and answers, and calls ``kill`` with its tenth answer."""
    asked = iter(range(1, 10_000))
    guard = threading.Lock()

    def script(request):
        with guard:
            if next(asked) == 10:
                kill()
        return search_then_answer(request)

    return script


def test_an_evaluation_outlasts_a_server_that_is_killed(own_server, serve, capsys):
    server = own_server()
    uri = server.uri("demo", retries=1)
    digest = demo(uri)
    assert evaluate(uri, serve(search_then_answer).url) == 0
    undisturbed = outcomes(newest())
    capsys.readouterr()

    def outage() -> None:
        server.kill()
        threading.Timer(1.0, server.start).start()

    assert evaluate(uri, serve(killing(outage)).url) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("search ")]
    assert shown[0].startswith(f"search does not answer: http://127.0.0.1:{server.port}/demo: no connection")
    assert shown[-1].startswith("search is back after ")
    run = newest()
    assert outcomes(run) == undisturbed and len(undisturbed) == QUESTIONS
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["search"]["digest"] == digest and manifest["search"]["backend"] == "elasticsearch"
    assert manifest["search_at"] == uri


def test_without_patience_every_episode_is_scored_or_an_error_and_resume_makes_it_whole(own_server, serve, capsys):
    server = own_server()
    uri = server.uri("demo", retries=0)
    demo(uri)
    model = serve(killing(server.kill))
    assert evaluate(uri, model.url, "limits.search_retries=0") == 1
    run = newest()
    records = list(read_episodes(run))
    assert len({record.key for record in records}) == QUESTIONS
    lost = [record for record in records if record.error is not None]
    assert 0 < len(lost) < QUESTIONS
    for record in lost:
        assert "no connection" in record.error and record.em is None and record.ended == "error"
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["episodes"], summary["errors"]) == (QUESTIONS - len(lost), len(lost))
    server.start()
    assert cli.main(["eval", "--resume", str(run)]) == 0
    whole = {record.key: record for record in read_episodes(run)}
    assert len(whole) == QUESTIONS and all(record.error is None for record in whole.values())
    assert "search did not come back" in capsys.readouterr().out


def test_a_local_model_outlasts_a_server_that_is_killed(own_server):
    server = own_server()
    uri = server.uri("microwiki", retries=1)
    load_index(uri, load_benchmark("microwiki").passages("dev", None, world="tiny")).close()
    config = JudgeConfig(concurrency=4)
    said: list[str] = []

    def run(model: LocalModel, between) -> list[EpisodeRecord]:
        records: list[EpisodeRecord] = []

        def on_records(batch) -> None:
            if not records:
                between()
            records.extend(batch)

        model.run(env, ids, set(), on_records, Outages(said.append))
        return [dataclasses.replace(record, seconds=0.0) for record in records]

    def outage() -> None:
        server.kill()
        threading.Timer(1.0, server.start).start()

    settings = {"world": "tiny", "dialect": "bare", "k": 1, "max_searches": 4, "search": uri}
    with (
        closing(make_env("AT2PO-MicroWiki-v0", "dev", settings)) as env,
        closing(LocalModel.open(resolve_policy("builtin:microwiki"), config)) as model,
    ):
        ids = [question.id for question in env.questions[:QUESTIONS]]
        undisturbed = run(model, lambda: None)
        assert not said
        assert run(model, outage) == undisturbed
    assert len(undisturbed) == QUESTIONS and all(record.error is None for record in undisturbed)
    assert said[0].startswith("search does not answer") and said[-1].startswith("search is back")
