"""A finished evaluation that is broken says why, shows one episode, and gives commands that run as they are."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.judge.config import JudgeConfig, ModelConfig
from at2po_agent.judge.episodes.records import TurnRecord, read_episodes
from at2po_agent.judge.results.diagnosis import diagnosis
from tests.helpers.chat_server import Say
from tests.helpers.evaluations import answered, failed, malformed

ENDPOINT = JudgeConfig(model=ModelConfig("m", "http://h/v1"))
LOCAL = JudgeConfig(model=ModelConfig("builtin:microwiki"))
RUN = Path("runs/a run")


@pytest.mark.fault("item 17: a finished evaluation that is broken says why, with a transcript and the next command")
def test_malformed_episodes_are_told_with_a_transcript_and_commands_that_run(serve, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = serve(lambda asked: Say("<answer>x</answer>" if asked.body.get("tools") else "I do not know."))
    words = ["eval", "-e", "AT2PO-HotpotQA-v0", "-m", "m", "-b", server.url, "-n", "8", "split=demo"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = (at for at, line in enumerate(lines) if line.startswith("8 of 8 episodes malformed (100.0%): "))
    assert lines[first].endswith("no complete <search> or <answer> (8)")
    assert lines[first + 1].strip().startswith("try format=native, or limits.max_turn_tokens=1024")
    assert lines[first + 2].strip().startswith("for example demo-")
    assert lines[first + 3].strip() == "turn 1, malformed: I do not know.  (no complete <search> or <answer>)"
    read, again = (shlex.split(line.split("at2po-agent ")[1]) for line in lines[first + 4 : first + 6])
    assert main(read) == 0
    assert "I do not know." not in capsys.readouterr().out  # the list; a question is read with --question
    assert main(again) == 0
    assert "malformed (" not in capsys.readouterr().out
    newest = max(Path("runs").iterdir(), key=lambda run: run.stat().st_mtime)
    assert [record.prediction for record in read_episodes(newest)] == ["x"] * 8


def test_what_is_sound_or_only_failed_says_nothing():
    assert diagnosis([answered("q1", "Rom"), answered("q2"), malformed("q3")], ENDPOINT, RUN) is None
    assert diagnosis([failed("q1"), failed("q2")], ENDPOINT, RUN) is None
    assert diagnosis([], ENDPOINT, RUN) is None


def test_the_share_is_of_the_scored_episodes():
    told = diagnosis([answered("q1"), malformed("q2"), failed("q3")], ENDPOINT, RUN)
    assert told is not None and told.startswith("1 of 2 episodes malformed (50.0%)")
    assert "at2po-agent view 'runs/a run' --filter malformed" in told


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        (ENDPOINT, "format=native"),
        (replace(ENDPOINT, format="native"), "format=tags"),
        (replace(ENDPOINT, env={"dialect": "chat"}), "format=native env.dialect=native"),
        (LOCAL, "env.dialect=NAME"),
    ],
)
def test_what_to_try_depends_on_how_the_model_acts(config, overrides):
    told = diagnosis([malformed("q1")], config, RUN)
    assert told is not None and told.splitlines()[-1].endswith(f"'runs/a run/config.yaml' {overrides}")


def test_episodes_without_room_name_the_limit():
    full = replace(answered("q1"), ended="length_limit", prediction=None, em=0.0)
    told = diagnosis([full, full], LOCAL, RUN)
    assert told is not None and told.startswith("2 of 2 episodes ended without room for an answer (100.0%): ")
    assert told.splitlines()[-1].endswith("limits.max_response_tokens=12384")


def test_a_transcript_is_short_and_cannot_steer_the_terminal():
    action = {"kind": "malformed", "content": None, "why": "no \x1b[2J action"}
    loud = replace(malformed("q1"), question="Who\x1b[31m?", turns=(TurnRecord("\x1b[2Jx" * 5000, action, ""),) * 9)
    told = diagnosis([loud], ENDPOINT, RUN)
    assert told is not None and "\x1b" not in told
    assert len(told.splitlines()) == 8 and max(map(len, told.splitlines())) < 400
