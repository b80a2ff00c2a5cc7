"""Training through a real SGLang server: weights arrive by every way, a run learns, and outlives the server's death."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest
import torch
from rich.console import Console

from at2po_agent.environments import make_env
from at2po_agent.method.groups import draw_questions
from at2po_agent.policy.base import Request, Sampling
from at2po_agent.policy.sglang.admin import SglangAdmin
from at2po_agent.policy.sglang.policy import SGLangPolicy
from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.metrics import Result
from at2po_agent.training.run_dir import RunDirectory, read_trees, tree_files
from at2po_agent.training.session import open_session
from at2po_agent.training.trainer import train
from tests.at2po_agent.training.test_session import SMALL
from tests.helpers.servers import free_port
from tests.helpers.sglang_server import STARTER
from tests.system.test_distributed import torchrun

pytestmark = pytest.mark.service

CONFIG = "microwiki_sglang"


def run(path: Path, url: str, *overrides: str) -> Result:
    config = load_config(CONFIG, [f"run_dir={path}", f"engine.urls=[{url}]", *overrides])
    with RunDirectory.create(config) as directory, Display(1, None, Console(quiet=True)) as display:
        return train(config, run=directory, display=display)


def metrics(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("sync", ["disk", "tensors", "distributed"])
def test_the_weights_that_sample_are_those_of_the_trainer(own_sglang_url, tmp_path, sync):
    overrides = ["engine.kind=sglang", "deterministic=false", f"engine.urls=[{own_sglang_url}]", f"engine.sync={sync}"]
    with closing(open_session(load_config(None, [*SMALL, *overrides]), tmp_path)) as session:
        for version in (1, 2):  # the second time a group is there already
            with torch.no_grad():
                for parameter in session.model.parameters():
                    parameter.mul_(1.05)
                logits = session.model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1]
            session.engine.release()
            session.engine.publish(session.model, version)
            (found,) = asyncio.run(session.engine.generate([Request((5, 6, 7, 8), 4, (0,))], Sampling(0.0)))
            assert found.version == version
            assert found.ids[0] == int(logits.argmax())
            assert found.logprobs[0] == pytest.approx(float(torch.log_softmax(logits, -1).max()), abs=1e-4)
            with closing(SGLangPolicy([own_sglang_url], session.codec)) as other:  # who comes later finds them too
                (again,) = asyncio.run(other.generate([Request((5, 6, 7, 8), 4, (0,))], Sampling(0.0)))
            assert again.ids == found.ids


@pytest.mark.timeout(600)
def test_the_next_trees_are_sampled_while_the_policy_is_updated(own_sglang_url, tmp_path):
    short = ["train.steps=4", "rollout.questions=4", "update.mini_batch=4", "update.epochs=2", "eval.questions=0"]
    result = run(tmp_path / "run", own_sglang_url, *short, "log.trees_every=1", "train.staleness=1")
    assert result.steps == 4
    lines = metrics(tmp_path / "run")
    assert [line["staleness"] for line in lines] == [0, 1, 1, 1]
    assert all(line["time"]["overlap"] > 0 for line in lines[:3]) and not any(
        line["straddling_turns"] for line in lines
    )
    trees = [[tree["tree"] for tree in read_trees(file)] for file in tree_files(tmp_path / "run")]
    versions = [{node["version"] for tree in step for node in tree["nodes"][1:]} for step in trees]
    assert versions == [{0}, {0}, {1}, {2}]


def connections(work: subprocess.Popen[str], url: str, ended: Event) -> dict[str, int]:
    """The most connections to ``url`` that each process of a torchrun had at once, by rank, until ``ended``."""
    port, most = int(url.rsplit(":", 1)[1]), Counter[str]()
    while not ended.wait(0.02):
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(work.pid).children():
                there = sum(bool(c.raddr) and c.raddr.port == port for c in child.net_connections("tcp"))
                rank = child.environ().get("RANK", "")
                most[rank] = max(most[rank], there)
    return most


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sync", ["disk", "tensors", "distributed"])
def test_two_processes_train_on_what_one_server_samples(own_sglang_url, tmp_path, sync):
    short = ["train.steps=2", "rollout.questions=4", "update.mini_batch=4", "eval.questions=10", "log.trees_every=1"]
    engine = [f"engine.urls=[{own_sglang_url}]", f"engine.sync={sync}"]
    work = torchrun("-m", "at2po_agent", "train", "--cfg", CONFIG, f"run_dir={tmp_path / 'run'}", *short, *engine)
    ended = Event()
    with ThreadPoolExecutor(1) as pool:
        watched = pool.submit(connections, work, own_sglang_url, ended)
        try:
            _, errors = work.communicate(timeout=600)
        finally:
            ended.set()
            work.kill()
    assert work.returncode == 0, errors[-4000:]
    steps = [line for line in metrics(tmp_path / "run") if "leaves" in line]
    assert [line["step"] for line in steps] == [1, 2]
    assert all(line["update_steps"] == 1 and line["update_grad_norm"] > 0 for line in steps)
    for line in steps:  # in the second step too the server samples from the weights that both processes trained
        assert 0.999 < line["update_ratio_min"] <= line["update_ratio_max"] < 1.001
    config = load_config(CONFIG, short)
    with closing(make_env(config.env.id, config.env.split, config.env.arguments)) as env:
        questions = draw_questions(env.tasks, config.seed, 0, 8)
    trees = [tree for file in sorted(tree_files(tmp_path / "run")) for tree in read_trees(file)]
    assert [tree["tree"]["question_id"] for tree in trees] == questions and len(set(questions)) == 8
    # A process that only asks what a server is has one connection.
    assert min(watched.result()[rank] for rank in "01") > 2


@pytest.fixture(scope="module")
def own_server(own_sglang):
    return own_sglang()


@pytest.fixture
def own_sglang_url(own_server):
    return own_server.url


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_starts_a_server_and_ends_it(tmp_path, monkeypatch):
    if not STARTER.is_file():
        pytest.skip(f"no SGLang to start at {STARTER}")
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))  # where uv is
    port = free_port()
    config = load_config(
        CONFIG,
        [
            f"run_dir={tmp_path / 'run'}",
            f"engine.launch.port={port}",
            f"engine.launch.command={STARTER} start --model {{model}} --port {{port}}",
            f"engine.launch.stop={STARTER} stop --port {{port}}",
            *["train.steps=1", "rollout.questions=2", "update.mini_batch=2", "eval.questions=5"],
        ],
    )
    with RunDirectory.create(config) as directory, Display(1, None, Console(quiet=True)) as display:
        result = train(config, run=directory, display=display)
    assert result.steps == 1 and result.after is not None
    assert f"127.0.0.1:{port}" in (tmp_path / "run" / "engine" / "server-0.log").read_text()
    assert not SglangAdmin(f"http://127.0.0.1:{port}").healthy()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_outlives_the_death_of_its_server(own_server, tmp_path):
    server, killed = own_server, Event()

    def outage() -> None:
        while not (tmp_path / "run" / "metrics.jsonl").is_file() or len(metrics(tmp_path / "run")) < 2:
            time.sleep(0.05)
        server.kill()
        killed.set()
        server.start()

    thread = threading.Thread(target=outage)
    thread.start()
    result = run(
        tmp_path / "run", server.url, "train.steps=3", "rollout.questions=4", "eval.questions=10", "rollout.retries=12"
    )
    thread.join()
    assert killed.is_set() and result.steps == 3 and result.after is not None
    for line in (line for line in metrics(tmp_path / "run") if "leaves" in line):
        assert line["trees"] + line["trees_dropped"] == 4


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a minute on two cores that nobody else uses
def test_fifteen_steps_raise_exact_match_on_unseen_questions(own_sglang_url, tmp_path):
    result = run(
        tmp_path / "run",
        own_sglang_url,
        "train.steps=15",
        "train.max_seconds=null",  # a slow machine takes the same steps
        "rollout.questions=16",
        "update.mini_batch=16",
        "eval.questions=200",
        "log.trees_every=0",
    )
    assert result.before is not None and result.after is not None and result.steps == 15
    before, after = (scores.mean for scores in (result.before, result.after))
    assert 0.1 <= before <= 0.3
    assert after > before + 0.15
