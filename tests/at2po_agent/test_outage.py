"""A training run on a real Elasticsearch that is killed under it and comes back."""

import json
import threading
import time

import pytest

from at2po_env.registration import load_benchmark
from search_backend.elastic_index import load_index
from tests.at2po_agent.test_trainer import run

pytestmark = pytest.mark.service


def test_a_run_outlives_the_server_and_accounts_for_every_episode(own_server, tmp_path):
    server = own_server()
    passages = load_benchmark("microwiki").passages("train", None, world="tiny")
    uri = server.uri("microwiki", retries=2)
    digest = load_index(uri, passages).manifest.digest
    path = tmp_path / "run"
    killed = threading.Event()

    def outage():
        while not (path / "metrics.jsonl").is_file() or '"reward"' not in (path / "metrics.jsonl").read_text():
            time.sleep(0.02)
        server.kill()
        killed.set()
        time.sleep(1)
        server.start()

    thread = threading.Thread(target=outage)
    thread.start()
    result = run(path, f"env.kwargs={{world: tiny, dialect: bare, k: 1, max_searches: 4, search: '{uri}'}}")
    thread.join()
    assert killed.is_set()
    assert result.steps == 4
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in (line for line in lines if "leaves" in line):
        # A lost chain takes with it the branches that would have grown on it, and a tree with one leaf is dropped.
        assert line["trees"] + line["trees_dropped"] == 4
        assert line["leaves"] + line["paths_lost"] == 4 * 6 or line["paths_lost"] > 0
    evaluations = [line for line in lines if "eval_em" in line]
    assert [line["eval_questions"] + line["eval_errors"] for line in evaluations] == [10, 10, 10]
    assert lines[-1]["eval_errors"] == 0 or lines[-1]["eval_questions"] > 0
    manifest = (path / "manifest.json").read_text()
    assert digest in manifest
