"""Training on a real Elasticsearch that is killed or slow in the middle of it, and comes back.

In deterministic mode a run that outlasted an outage is the run that had none, number for number.
"""

import io
import json
import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.run_dir import RunDirectory
from at2po_agent.training.trainer import train
from at2po_env.registration import load_benchmark
from search_backend.elastic.load import load_index
from tests.at2po_agent.training.test_trainer import SMALL, TREE, metrics

pytestmark = pytest.mark.service

Act = Callable[[], None]
CHAINS = "{name: grpo, expansion: {n: 6}}"


class Stage(Display):
    """The plain display, which acts once after the first batch of an evaluation, and once while step 2 runs."""

    def __init__(self, in_evaluation: Act | None = None, in_training: Act | None = None) -> None:
        self.screen = io.StringIO()
        super().__init__(3, None, Console(file=self.screen, width=500))
        self.in_evaluation, self.in_training = in_evaluation, in_training

    def advance(self, n=1):
        super().advance(n)
        act, self.in_evaluation = self.in_evaluation, None
        if act:
            act()

    def step(self, step, metrics, seconds, tokens=0):
        super().step(step, metrics, seconds, tokens)
        act, self.in_training = self.in_training, None
        if act:
            threading.Timer(0.1, act).start()

    def of_search(self) -> list[str]:
        """What was shown of the search's state."""
        return [line for line in self.screen.getvalue().splitlines() if line.startswith("search ")]


def run(path: Path, uri: str, display: Stage, *overrides: str, algorithm: str = TREE) -> list[dict]:
    kwargs = f"env.kwargs={{world: tiny, dialect: bare, k: 1, max_searches: 4, search: '{uri}'}}"
    more = [f"algorithm={algorithm}", f"run_dir={path}", "eval.batch=4", "eval.every=0", "train.steps=3", kwargs]
    directory = RunDirectory.create(load_config(None, [*SMALL, *more, *overrides]))
    with directory, display:
        train(directory.config, run=directory, display=display)
    return metrics(path)


def microwiki(uri: str) -> str:
    """Load the tiny world; returns the digest of the index's manifest."""
    backend = load_index(uri, load_benchmark("microwiki").passages("train", None, world="tiny"))
    backend.close()
    return backend.manifest.digest


@pytest.fixture(scope="module")
def undisturbed(elasticsearch_host, tmp_path_factory) -> list[dict]:
    """The metrics of the run that no outage hits."""
    uri = f"elasticsearch://{elasticsearch_host}/test-{uuid.uuid4().hex}"
    microwiki(uri)
    return run(tmp_path_factory.mktemp("runs") / "undisturbed", uri, Stage())


def test_a_run_outlasts_a_server_that_is_killed_twice_and_loses_nothing(own_server, undisturbed, tmp_path):
    server = own_server()
    uri = server.uri("microwiki", retries=1)
    digest = microwiki(uri)

    def outage() -> None:
        server.kill()
        threading.Timer(1.0, server.start).start()

    stage = Stage(in_evaluation=outage, in_training=outage)
    lines = run(tmp_path / "run", uri, stage)
    assert lines == undisturbed
    steps = [line for line in lines if "leaves" in line]
    assert [(line["leaves"], line["paths_lost"], line["trees_dropped"]) for line in steps] == [(24, 0, 0)] * 3
    evaluations = [line for line in lines if "eval_em" in line]
    assert [(line["eval_questions"], line["eval_errors"]) for line in evaluations] == [(10, 0)] * 2
    shown = stage.of_search()
    away = f"search does not answer: http://127.0.0.1:{server.port}/microwiki: "
    back = "search is back after "
    assert shown[0].startswith(f"{away}no connection") and re.search(r"; next try in \d+ s$", shown[0])
    # a server that is just starting may answer with an error, so only the first reason is known
    # an outage that begins within seconds of the last one's end is told only when it is over
    assert all(line.startswith((away, back, "search has not answered for")) for line in shown)
    assert sum(line.startswith(back) for line in shown) == 2 and shown[-1].startswith(back)
    (session,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["sessions"]
    search = session["env"]["search"]
    assert search["digest"] == digest and search["backend"] == "elasticsearch"
    assert session["env"]["search_at"] == session["eval_env"]["search_at"] == uri


def test_without_patience_every_episode_is_scored_or_counted_as_lost(own_server, tmp_path):
    server = own_server()
    uri = server.uri("microwiki", retries=0)
    microwiki(uri)

    class Impatient(Stage):
        """Starts the server again when the evaluation or the step that lacked it is over."""

        def evaluation(self, scores):
            super().evaluation(scores)
            server.start()

        def step(self, step, metrics, seconds, tokens=0):
            if step == 2:
                server.start()
            super().step(step, metrics, seconds, tokens)

    stage = Impatient(in_evaluation=server.kill, in_training=server.kill)
    lines = run(tmp_path / "run", uri, stage, "rollout.retries=0", algorithm=CHAINS)
    steps = [line for line in lines if "leaves" in line]
    assert len(steps) == 3
    for line in steps:
        assert line["leaves"] + line["leaves_dropped"] + line["paths_lost"] == 4 * 6
        assert line["trees"] + line["trees_dropped"] + line["questions_dropped"] == 4
    assert steps[1]["paths_lost"] > 0 and steps[0]["paths_lost"] == steps[2]["paths_lost"] == 0
    start, end = (line for line in lines if "eval_em" in line)
    assert start["eval_questions"] + start["eval_errors"] == 10 and start["eval_questions"] >= 4
    assert start["eval_errors"] > 0
    assert end["eval_questions"] == 10 and end["eval_errors"] == 0
    assert any("search did not come back" in line for line in stage.of_search())


def test_a_run_outlasts_a_server_that_is_only_slow(elasticsearch_host, slow_proxy, undisturbed, tmp_path, name):
    microwiki(f"elasticsearch://{elasticsearch_host}/{name}")
    proxy = slow_proxy(elasticsearch_host)

    def slow() -> None:
        proxy.delay = 2.0
        threading.Timer(3.0, setattr, (proxy, "delay", 0.0)).start()

    stage = Stage(in_training=slow)
    lines = run(tmp_path / "run", f"elasticsearch://127.0.0.1:{proxy.port}/{name}?timeout=1&retries=0", stage)
    assert lines == undisturbed
    assert "no answer within 1 s (set by ?timeout=); next try in 2 s" in stage.of_search()[0]
    assert stage.of_search()[-1].startswith("search is back after")
