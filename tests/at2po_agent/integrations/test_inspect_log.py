"""Against the real package: it reads what we write without a warning, and its viewer finds it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path

import pytest

pytest.importorskip("inspect_ai")

from inspect_ai.log import list_eval_logs, read_eval_log, read_eval_log_sample, read_eval_log_sample_summaries

from at2po_agent.commands.main import main
from at2po_agent.judge.episodes.records import read_episodes
from tests.helpers.chat_server import ChatServer
from tests.helpers.places import ROOT
from tests.helpers.scripted_answers import DEMO, scripted_answers

pytestmark = pytest.mark.integration

STORED = ROOT / "tests" / "system" / "stored" / "evaluations"


def export(run: Path, out: Path, *words: str):
    assert main(["export-traces", str(run), "--format", "inspect", "--out", str(out), *words]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_eval_log(str(out))


@pytest.mark.parametrize("run", sorted(path.name for path in STORED.iterdir()))
def test_every_stored_evaluation_is_a_log(run, tmp_path):
    log = export(STORED / run, tmp_path / "log.eval")
    records = {(record.question_id, record.sample + 1): record for record in read_episodes(STORED / run)}
    assert log.samples and log.status == "success"
    for sample in log.samples:
        record = records[sample.id, sample.epoch]
        assert sample.scores["outcome"].value == {k: v for k, v in record.measured.items() if v is not None}
        assert sample.scores["outcome"].answer == record.prediction and sample.target == list(record.answers)
        assert sample.messages and sample.messages[0].role == "user"


@pytest.mark.parametrize("form", ["tags", "native"])
def test_a_fresh_evaluation_is_one_that_inspect_lists_and_shows(tmp_path, form):
    with ChatServer(scripted_answers("AT2PO-HotpotQA-v0", "demo", native=form == "native")) as server:
        where = [*DEMO, "-b", server.url, "-n", "4", "-r", "2"]
        assert main([*where, f"format={form}", f"out={tmp_path / 'runs'}"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    (tmp_path / "logs").mkdir()
    log = export(run, tmp_path / "logs" / "log.eval")
    assert [score.name for score in log.results.scores][:2] == ["em", "f1"]
    assert log.results.scores[0].metrics["mean"].value == 0.5 and log.eval.config.epochs == 2
    # The viewer shows the difference as the duration, and NaN without them.
    took = datetime.fromisoformat(log.stats.completed_at) - datetime.fromisoformat(log.stats.started_at)
    assert took.total_seconds() == pytest.approx(sum(sample.total_time for sample in log.samples), abs=1e-3)
    (usage,) = log.stats.model_usage.values()
    assert usage.input_tokens == sum(one.model_usage["smollm2"].input_tokens for one in log.samples) > 0
    (listed,) = list_eval_logs(str(tmp_path / "logs"))
    assert read_eval_log(listed, header_only=True).eval.task == "at2po/hotpotqa"
    summaries = read_eval_log_sample_summaries(str(tmp_path / "logs" / "log.eval"))
    assert len(summaries) == 8 and all(one.scores for one in summaries)
    assert (
        read_eval_log_sample(str(tmp_path / "logs" / "log.eval"), log.samples[0].id).messages == log.samples[0].messages
    )
    bundle = [Path(sys.executable).with_name("inspect"), "view", "bundle", "--log-dir", tmp_path / "logs"]
    done = subprocess.run([*bundle, "--output-dir", tmp_path / "page"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "warning" not in (done.stdout + done.stderr).lower()
    assert (tmp_path / "page" / "index.html").is_file() and list((tmp_path / "page" / "logs").glob("*.eval"))


def test_a_filter_chooses_the_episodes(tmp_path):
    with ChatServer(scripted_answers("AT2PO-HotpotQA-v0", "demo")) as server:
        where = [*DEMO, "-b", server.url, "-n", "4"]
        assert main([*where, f"out={tmp_path / 'runs'}"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    log = export(run, tmp_path / "log.eval", "--only", "correct")
    assert len(log.samples) == 2 and log.results.scores[0].metrics["mean"].value == 1.0
