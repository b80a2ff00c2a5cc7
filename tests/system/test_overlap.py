"""``train.staleness=1``: a step's trees are sampled beside the update before, and none is lost or used twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from at2po_agent.method.groups import draw_questions, has_unequal_rewards
from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.loading import load_policy, resolve_policy
from at2po_agent.policy.sglang.engine import SGLangEngine
from at2po_agent.training import checkpoints
from at2po_agent.training.batches import read_batch
from at2po_agent.training.config import load_config
from at2po_agent.training.metrics import Result
from at2po_agent.training.run_dir import RunDirectory, read_trees, tree_files
from at2po_agent.training.trainer import train
from at2po_agent.training.workers import RolloutWorkers
from at2po_agent.update.logprobs import unrolled
from at2po_agent.update.updater import Updater
from at2po_env.registration import make
from tests.helpers.sglang_player import Player, playing

QUESTIONS = 2
CONFIG = [
    "policy.path=builtin:microwiki",
    "env.id=AT2PO-MicroWiki-v0",
    "env.kwargs={world: tiny, dialect: bare, k: 1, max_searches: 1}",
    "engine.kind=sglang",
    "deterministic=false",
    "algorithm={name: grpo, expansion: {n: 3}}",
    f"rollout.questions={QUESTIONS}",
    "rollout.max_turn_tokens=24",
    "rollout.retries=0",
    "update.lr=1e-3",
    "update.mini_batch=2",
    "eval.questions=0",
    "checkpoint={every: 1, keep: 9}",
    "train.staleness=1",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Player]:
    with playing() as player:
        yield player


@pytest.fixture
def player(server: Player) -> Iterator[Player]:
    """The server as a test finds it: it answers at once, and nothing has happened yet."""
    server.events.clear()
    server.hold.set()
    server.asked.clear()
    yield server
    server.hold.set()


def run(path: Path, player: Player, *overrides: str, stop: Event | None = None) -> Result:
    """Train in ``path``, or go on there."""
    if (path / "config.yaml").exists():
        directory = RunDirectory.resume(path, overrides)
    else:
        config = load_config(None, [*CONFIG, f"engine.urls=[{player.url}]", f"run_dir={path}", *overrides])
        directory = RunDirectory.create(config)
    with directory:
        return train(directory.config, run=directory, stop=stop)


def steps(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "leaves" in line]


def trees(path: Path) -> list[list[TurnTree]]:
    """The trees of every step."""
    return [[TurnTree.from_json(record["tree"]) for record in read_trees(file)] for file in tree_files(path)]


def versions(path: Path) -> list[set[int]]:
    """The versions of the weights that sampled the turns of every step."""
    return [{node.version for tree in step for node in tree.nodes[1:]} for step in trees(path)]


def asked(path: Path) -> list[str]:
    return [tree.question_id for step in trees(path) for tree in step]


def drawn(n: int) -> list[str]:
    """The questions of the first ``n`` steps, in their order."""
    return draw_questions(
        make("microwiki", split="train", k=1, dialect="bare", world="tiny").tasks, 0, 0, n * QUESTIONS
    )


def events(player: Player) -> list[str]:
    """In their order, each run of equal ones once."""
    return [event for n, event in enumerate(player.events) if n == 0 or player.events[n - 1] != event]


def around(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, before: Callable[[], None]) -> None:
    """Let ``before`` run whenever a method is called, ahead of it."""
    method = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        before()
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)


@pytest.fixture(scope="module")
def straight(server: Player, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps without interruption, each of whose updates is computed while the next step's turns wait for it."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    with pytest.MonkeyPatch.context() as patched:

        def wait_for_a_turn() -> None:
            if not server.hold.is_set():
                assert server.asked.wait(20), "nothing is sampled beside the update"
                server.hold.set()

        around(patched, RolloutWorkers, "begin", server.hold_back)
        around(patched, Updater, "update", wait_for_a_turn)
        server.events.clear()
        run(path, server, "train.steps=4")
    (path / "events.json").write_text(json.dumps(events(server)))
    return path


def test_the_next_trees_are_sampled_beside_the_update_and_weights_go_out_between(straight: Path) -> None:
    order = json.loads((straight / "events.json").read_text())
    assert order == [
        *("weights 0", "turn 0"),  # of steps 1 and 2
        *("weights 1", "turn 1", "weights 2", "turn 2", "weights 3", "weights 4"),
    ]
    assert [line["step"] for line in steps(straight)] == [1, 2, 3, 4]
    assert asked(straight) == drawn(4)


def test_a_step_is_of_one_version_which_its_turns_keep(straight: Path) -> None:
    assert versions(straight) == [{0}, {0}, {1}, {2}]
    assert [line["staleness"] for line in steps(straight)] == [0, 1, 1, 1]
    assert not any(line["straddling_turns"] for line in steps(straight))


def test_ratios_are_to_the_weights_that_sampled(straight: Path) -> None:
    start, _ = load_policy(resolve_policy("builtin:microwiki"))
    folders = checkpoints.folders(straight / "checkpoints")
    models = [start, *(AutoModelForCausalLM.from_pretrained(folder / "model") for folder in folders)]
    moved = []
    for n, (grown, line) in enumerate(zip(trees(straight), steps(straight), strict=True)):
        grown = [tree for tree in grown if has_unequal_rewards(tree)]  # others are not forwarded
        with torch.no_grad():
            old, _ = unrolled(models[max(n - 1, 0)], grown, 1.0)
            new, _ = unrolled(models[n], grown, 1.0)
        sampled = [p for tree in grown for _, path in tree.trajectories() for i in path for p in tree[i].logp]
        assert old.tolist() == pytest.approx(sampled, abs=1e-3)
        ratios = (new - torch.tensor(sampled)).exp()
        assert line["update_ratio_max"] == pytest.approx(float(ratios.max()), rel=1e-2)
        assert line["update_ratio_min"] == pytest.approx(float(ratios.min()), rel=1e-2)
        moved.append(float((new - old).abs().max()))
    assert moved[0] == 0.0 < 1e-3 < min(moved[1:])  # one update lies between them


def test_a_steps_time_is_rollout_and_update_without_what_they_have_in_common(straight: Path) -> None:
    for line in steps(straight):
        time = line["time"]
        assert time["step"] == pytest.approx(time["rollout"] + time["update"] - time["overlap"], abs=1e-6)
    assert all(line["time"]["overlap"] > 0 for line in steps(straight)[:3])
    assert steps(straight)[3]["time"]["overlap"] == 0.0


class Killed(BaseException):
    """The process is gone."""


POINTS: list[tuple[Any, str, int]] = [  # and at which call: most sessions get one step further than the one before
    (RolloutWorkers, "grow", 1),
    (RolloutWorkers, "begin", 2),
    (Updater, "update", 2),
    (RolloutWorkers, "finish", 2),
    (SGLangEngine, "publish", 3),
    (RunDirectory, "save_trees", 2),
    (RunDirectory, "log", 2),
    (checkpoints, "save", 2),
]


@pytest.mark.slow  # nine sessions
def test_a_run_that_is_killed_at_every_point_of_a_step_loses_nothing_and_uses_nothing_twice(
    player: Player, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    for owner, name, nth in POINTS:
        calls = iter(range(1, nth))

        def kill(calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise Killed

        with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
            around(patched, owner, name, kill)
            run(path, player, "train.steps=12")
    done = len(steps(path))
    assert done == 8
    assert run(path, player, f"train.steps={done + 2}").steps == done + 2
    assert [line["step"] for line in steps(path)] == list(range(1, done + 3))
    assert asked(path) == drawn(done + 2)
    assert versions(path) == [{max(n - 1, 0)} for n in range(done + 2)]
    for folder in checkpoints.folders(path / "checkpoints")[:-1]:
        ahead = read_batch(folder / "ahead.json.zst")
        after = trees(path)[checkpoints.step_of(folder)]
        assert [tree.to_json() for tree in ahead.rollout.trees] == [tree.to_json() for tree in after]


def test_a_stop_finishes_what_runs_and_the_run_goes_on_with_the_trees_that_it_had(
    player: Player, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Event()
    with monkeypatch.context() as patched:
        around(patched, Updater, "update", stop.set)
        stopped = run(tmp_path / "run", player, "train.steps=3", stop=stop)
    assert (stopped.stopped, stopped.steps) == (True, 1) and stopped.checkpoint is not None
    ahead = read_batch(stopped.checkpoint / "ahead.json.zst").rollout
    assert stopped.trees == QUESTIONS == len(ahead.trees)
    assert stopped.generated_tokens == steps(tmp_path / "run")[0]["generated_tokens"]
    before = len(player.turns)
    assert run(tmp_path / "run", player, "train.steps=2").steps == 2
    assert len(player.turns) == before  # all of step 2 was there
    assert asked(tmp_path / "run") == drawn(2) and versions(tmp_path / "run") == [{0}, {0}]
    assert steps(tmp_path / "run")[1]["generated_tokens"] == ahead.generated_tokens


def test_an_error_in_the_update_cancels_what_is_sampled_beside_it(
    player: Player, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        assert player.asked.wait(20)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        around(patched, RolloutWorkers, "begin", player.hold_back)
        around(patched, Updater, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", player, "train.steps=3")
    assert player.aborted
    player.hold.set()
    assert run(tmp_path / "run", player, "train.steps=3").steps == 3 and asked(tmp_path / "run") == drawn(3)


def test_a_budget_of_tokens_samples_no_trees_beyond_it(player: Player, tmp_path: Path) -> None:
    before = len(player.turns)
    ended = run(tmp_path / "run", player, "train.max_tokens=1")
    assert ended.steps == 1 and ended.checkpoint is not None
    assert not (ended.checkpoint / "ahead.json.zst").exists()
    assert len(player.turns) - before == sum(len(tree) - 1 for step in trees(tmp_path / "run") for tree in step)


def test_evaluations_come_when_nothing_is_sampled_and_staleness_can_change(player: Player, tmp_path: Path) -> None:
    path, evaluated = tmp_path / "run", "eval={questions: 2, every: 1, at_start: false, at_end: true}"
    run(path, player, "train.steps=1", "train.staleness=0", evaluated)
    assert run(path, player, "train.steps=3", "train.staleness=1").steps == 3
    assert run(path, player, "train.steps=4", "train.staleness=0").steps == 4
    assert [line.get("staleness", 0) for line in steps(path)] == [0, 0, 1, 0]
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_em" in line] == [1, 2, 3, 4]
    sampled = [event for event in events(player) if event.startswith("turn")]
    # Of the evaluations too, each by the weights of its step; the turns of step 3 came before weights 2.
    assert [event.split()[1] for event in sampled] == list("0112334")
