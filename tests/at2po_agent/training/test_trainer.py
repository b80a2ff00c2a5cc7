"""The run loop on MicroWiki with the shipped policy: nothing is doubled but the search's latency and outages."""

import asyncio
import json
from pathlib import Path
from threading import Event

import gymnasium
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from at2po_agent.method.tree import TurnTree
from at2po_agent.policy.loading import load_policy
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.display import Display
from at2po_agent.training.export import export
from at2po_agent.training.metrics import Result
from at2po_agent.training.run_dir import RunDirectory, RunDirError, read_trees, tree_files
from at2po_agent.training.trainer import atrain, train
from search_backend import tape_uri
from tests.helpers.real_games import needs_gem
from tests.helpers.unreliable_env import ID

SMALL = [
    "policy.path=builtin:microwiki",
    "env.id=AT2PO-MicroWiki-v0",
    "env.kwargs={world: tiny, dialect: bare, k: 1, max_searches: 4}",
    "rollout.questions=4",
    "rollout.max_turn_tokens=24",
    "update.lr=1e-3",
    "update.mini_batch=2",
    "train.steps=4",
    "eval.questions=10",
    "eval.every=2",
    "checkpoint.every=2",
]
IMPORT = "env.imports=[tests.helpers.unreliable_env]"
TREE = "{expansion: {chains: 4, per_round: 2, rounds: 1}}"


def run(path: Path, *overrides: str, stop: Event | None = None, resume: bool = False, algorithm: str = TREE) -> Result:
    if resume:
        directory = RunDirectory.resume(path, overrides)
    else:
        directory = RunDirectory.create(
            load_config(None, [*SMALL, f"algorithm={algorithm}", f"run_dir={path}", *overrides])
        )
    limits = directory.config.train
    with directory, Display(limits.steps, limits.max_seconds, Console(quiet=True)) as display:
        return train(directory.config, run=directory, display=display, stop=stop)


def metrics(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("time")
    return lines


def weights(result: Result) -> dict[str, torch.Tensor]:
    assert result.checkpoint is not None
    return load_file(result.checkpoint / "model" / "model.safetensors")


def assert_same_weights(one: Result, other: Result) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[Path, Result]:
    """Four steps without interruption."""
    path = tmp_path_factory.mktemp("runs") / "straight"
    return path, run(path)


def test_training_changes_the_policy_and_records_every_step(straight):
    path, result = straight
    steps = [line["step"] for line in metrics(path) if "reward" in line]
    assert steps == [1, 2, 3, 4] == list(range(1, result.steps + 1))
    assert all(line["leaves"] == 4 * 6 for line in metrics(path) if "reward" in line)
    assert any(line["update_grad_norm"] > 0 for line in metrics(path) if "reward" in line)
    assert result.generated_tokens == sum(line["generated_tokens"] for line in metrics(path) if "reward" in line)
    assert [line["step"] for line in metrics(path) if "eval_em" in line] == [0, 2, 4]


def test_resume_continues_bit_equal(straight, tmp_path):
    path, result = straight
    first = run(tmp_path / "halves", "train.steps=3")  # the checkpoint is of step 3, an evaluation of its end too
    assert first.steps == 3
    second = run(tmp_path / "halves", "train.steps=4", resume=True)
    assert_same_weights(result, second)
    one, two = metrics(path), metrics(tmp_path / "halves")
    assert [m for m in one if "reward" in m] == [m for m in two if "reward" in m]
    assert second.before == result.before and second.after == result.after
    assert second.generated_tokens == result.generated_tokens


def test_a_budget_of_tokens_ends_training_and_holds_across_a_resume(straight, tmp_path):
    path, _ = straight
    spent = [line["generated_tokens"] for line in metrics(path) if "reward" in line]
    two = f"train.max_tokens={spent[0] + 1}"  # the second step passes it
    first = run(tmp_path / "run", two, "eval.questions=0")
    assert (first.steps, first.generated_tokens) == (2, spent[0] + spent[1])
    assert run(tmp_path / "run", resume=True).steps == 2  # spent already
    more = run(tmp_path / "run", f"train.max_tokens={sum(spent[:3])}", resume=True)
    assert (more.steps, more.generated_tokens) == (3, sum(spent[:3]))


def test_a_budget_of_searches_ends_training(straight, tmp_path):
    path, _ = straight
    calls = [line["calls"] for line in metrics(path) if "reward" in line]
    assert all(calls)
    ended = run(tmp_path / "run", f"train.max_calls={calls[0] + 1}", "eval.questions=0")
    assert ended.steps == 2  # the second step passes it
    assert run(tmp_path / "run", "train.max_cpu_seconds=0.001", "train.max_calls=null", resume=True).steps == 2


@pytest.mark.slow
def test_adapters_alone_are_trained_saved_resumed_bit_equal_and_exported_as_one_model(tmp_path):
    lora = ["lora={rank: 2, alpha: 4}", "algorithm.objective.kl_coef=0.01", "update.lr=1e-2"]
    straight = run(tmp_path / "straight", *lora, "train.steps=3", "eval.questions=4")
    run(tmp_path / "halves", *lora, "train.steps=1", "eval.questions=4")
    resumed = run(tmp_path / "halves", "train.steps=3", resume=True)
    assert straight.checkpoint is not None and resumed.checkpoint is not None
    ours, theirs = (load_file(one.checkpoint / "model" / "adapter_model.safetensors") for one in (straight, resumed))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(tensor.any() for name, tensor in ours.items() if "lora_B" in name)
    last = [line for line in metrics(tmp_path / "straight") if "reward" in line][-1]
    assert last == [line for line in metrics(tmp_path / "halves") if "reward" in line][-1] and last["update_kl_ref"] > 0
    sizes = {file.name: file.stat().st_size for file in straight.checkpoint.rglob("*") if file.is_file()}
    assert "model.safetensors" not in sizes and sizes["state.pt"] < 3 * sizes["adapter_model.safetensors"]
    export(tmp_path / "straight", tmp_path / "whole", lambda problem: None)
    assert not list((tmp_path / "whole").glob("adapter*"))
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    adapted, _ = load_policy(straight.checkpoint / "model")
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(exported(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_latency_changes_nothing_but_timings(tmp_path):
    quiet = run(tmp_path / "quiet", f"env.id={ID}", "env.kwargs={world: tiny}", IMPORT)
    slow = run(tmp_path / "slow", f"env.id={ID}", "env.kwargs={world: tiny, delay: 0.02}", IMPORT)
    assert metrics(tmp_path / "quiet") == metrics(tmp_path / "slow")
    assert_same_weights(quiet, slow)


def test_outages_lose_paths_that_are_counted_and_never_scored(tmp_path):
    run(
        tmp_path / "run",
        f"env.id={ID}",
        "env.kwargs={world: tiny, down: 0.3}",
        IMPORT,
        "rollout.retries=0",
        "train.steps=1",
    )
    (start, step, end) = metrics(tmp_path / "run")
    assert step["paths_lost"] > 0
    assert step["leaves"] + step["paths_lost"] <= 4 * 6
    assert start["eval_errors"] > 0 and start["eval_questions"] + start["eval_errors"] == 10
    assert end["eval_questions"] + end["eval_errors"] == 10


@pytest.mark.slow
def test_tensorboard_has_every_step_and_evaluation_once_after_a_resume(tmp_path):
    board = ["log.tensorboard=true", "eval.questions=4", "eval.every=2", "eval.at_end=false"]
    run(tmp_path / "run", *board, "train.steps=3")
    run(tmp_path / "run", "train.steps=5", "eval.at_end=true", resume=True)
    run(tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    logged = metrics(tmp_path / "run")
    scalars = events.Tags()["scalars"]
    assert {"update/loss", "rollout/entropy", "time/step_seconds"} <= set(scalars)
    # A metric that ``loggers.GROUPS`` does not know would be there.
    assert [name for name in scalars if name.startswith("other/")] == []
    assert {event.step for event in events.Tensors("examples/best_path/text_summary")} == {1}
    names = {"reward": "rollout/reward", "eval_em": "eval/em"}
    for name, steps in (("reward", [1, 2, 3, 4, 5]), ("eval_em", [0, 2, 4, 5])):
        shown = [(event.step, event.value) for event in events.Scalars(names[name])]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in logged if name in line]
        assert [step for step, _ in shown] == steps


@pytest.mark.slow
def test_paths_end_where_the_models_context_does(tmp_path):
    long = ["env.kwargs={k: 25}", "rollout.max_turn_tokens=512", "rollout.questions=2", "train.steps=1"]
    assert run(tmp_path / "run", *long, "eval.questions=0").steps == 1
    trees = [TurnTree.from_json(record["tree"]) for record in read_trees(tree_files(tmp_path / "run")[0])]
    used = [len(tree.prompt_ids(leaf)) for tree in trees for leaf in tree.leaves]
    assert 512 < max(used) <= 1024  # a turn of 512 tokens no longer fitted into the model's 1,024


def test_stop_finishes_the_step_and_leaves_a_checkpoint_to_go_on_from(straight, tmp_path):
    _, result = straight

    class AfterTwo(Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 3

    stopped = run(tmp_path / "stopped", stop=AfterTwo())
    assert stopped.stopped and 0 < stopped.steps < 4 and stopped.after is None
    assert_same_weights(result, run(tmp_path / "stopped", resume=True))


def test_stored_trees_reopen_with_the_ids_that_were_trained_on(straight):
    path, result = straight
    records = [record for file in tree_files(path) for record in read_trees(file)]
    assert len(records) == result.trees == 16
    for record in records:
        tree = TurnTree.from_json(record["tree"])
        assert len(tree.leaves) == len(record["advantages"])
        for (_, turns), row in zip(tree.trajectories(), record["advantages"], strict=True):
            assert [record["values"][n] for n in turns] == row  # node_value: A(n) = V(n)


def test_recomputed_logprobs_are_those_of_the_rollout(straight, tmp_path):
    recomputed = run(tmp_path / "run", "update.old_logprobs=recompute", "train.steps=1", "eval.questions=0")
    once = run(tmp_path / "other", "train.steps=1", "eval.questions=0")
    ours, theirs = weights(recomputed), weights(once)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4
    assert recomputed.before is None and recomputed.after is None


@pytest.mark.parametrize(
    "algorithm",
    [
        "{name: grpo, expansion: {n: 4}}",
        "{name: gspo, expansion: {n: 4}}",
        "{name: grpo, expansion: {n: 4}, shaping: {name: overlong}}",
        "{name: tree_grpo, expansion: {leaves: 4}}",
        "{name: aepo, expansion: {chains: 2, leaves: 4}}",
        "{name: at2po, expansion: {name: random, chains: 2, per_round: 2, rounds: 1}, credit: {name: leaf}}",
    ],
)
def test_every_algorithm_runs_through_the_same_loop(algorithm, tmp_path):
    result = run(tmp_path / "run", "train.steps=1", "eval.questions=0", algorithm=algorithm)
    (line,) = metrics(tmp_path / "run")
    assert line["leaves"] == 16 and result.trees == 4


DAPO = "{name: dapo, expansion: {n: 4}, groups: {max_batches: 3}}"


@pytest.mark.slow
def test_dynamic_sampling_trains_on_mixed_groups_and_resumes_at_the_next_question(tmp_path):
    """The policy starts at 17 %, so that many groups of four chains are all wrong and refills are needed."""
    straight = run(tmp_path / "straight", "train.steps=3", "eval.questions=0", algorithm=DAPO)
    lines = metrics(tmp_path / "straight")
    assert any(line["groups_equal"] > 0 for line in lines) and any(line["unused_tokens"] > 0 for line in lines)
    assert all(line["trees_with_signal"] == line["trees"] <= 4 for line in lines)
    assert straight.generated_tokens == sum(line["generated_tokens"] for line in lines)
    assert all(line["unused_tokens"] < line["generated_tokens"] for line in lines)
    records = [record for file in tree_files(tmp_path / "straight") for record in read_trees(file)]
    asked = [record["tree"]["question_id"] for record in records]
    assert len(asked) == len(set(asked)) == straight.trees  # no question comes twice within an epoch
    run(tmp_path / "halves", "train.steps=2", "eval.questions=0", algorithm=DAPO)
    resumed = run(tmp_path / "halves", "train.steps=3", resume=True)
    assert metrics(tmp_path / "halves") == lines
    assert_same_weights(straight, resumed)


@pytest.mark.slow
def test_reading_re_encoded_text_moves_the_ratios_before_anything_was_learned(tmp_path):
    """At this temperature words are spelled oddly, so that their text encodes to other ids."""
    hot = ["rollout.temperature=2", "train.steps=1", "eval.questions=0", "update.mini_batch=4"]
    moved = {}
    for tokens in ("exact", "retokenise"):
        run(tmp_path / tokens, *hot, f"rollout.tokens={tokens}")
        (line,) = metrics(tmp_path / tokens)
        moved[tokens] = line["update_ratio_max"] - line["update_ratio_min"]
    assert moved["exact"] < 1e-3 < moved["retokenise"]


def test_a_run_goes_on_only_with_the_search_results_that_it_was_trained_on(tmp_path):
    env = gymnasium.make("AT2PO-MicroWiki-v0", world="tiny").unwrapped
    tape = tmp_path / "results.tape"
    uri = tape_uri(tape, mode="read-through", over=f"embedded:{env.search.directory}")
    one = ["env.kwargs.search=" + json.dumps(uri), "train.steps=1", "eval.questions=0"]
    result = run(tmp_path / "run", *one)
    assert result.checkpoint is not None
    used = json.loads((result.checkpoint / "position.json").read_text())["tape"]
    assert 0 < used <= tape.stat().st_size
    assert run(tmp_path / "run", "train.steps=2", resume=True).steps == 2
    tape.unlink()
    with pytest.raises(RunDirError, match="restore the tape"):
        run(tmp_path / "run", "train.steps=3", resume=True)


def test_a_kl_term_to_the_start_is_reported(tmp_path):
    algorithm = "{expansion: {chains: 4, per_round: 2, rounds: 1}, objective: {kl_coef: 0.01}}"
    run(tmp_path / "run", "train.steps=2", "eval.questions=0", algorithm=algorithm)
    first, second = metrics(tmp_path / "run")
    assert first["update_kl_ref"] >= 0.0 and second["update_kl_ref"] > 0.0


ONE_STEP = [*SMALL, f"algorithm={TREE}", "train.steps=1", "eval.questions=0"]


def test_a_configuration_is_all_that_training_needs(tmp_path, capsys):
    result = train(load_config(None, [*ONE_STEP, f"run_dir={tmp_path / 'run'}"]))
    assert result.steps == 1 and not result.stopped
    assert result.checkpoint is not None and result.checkpoint.parent.parent == tmp_path / "run"
    assert capsys.readouterr() == ("", "")
    with pytest.raises(RunDirError, match="already exists"):
        train(load_config(None, [*ONE_STEP, f"run_dir={tmp_path / 'run'}"]))


def test_nothing_is_left_of_a_run_that_cannot_begin(tmp_path):
    with pytest.raises(ConfigError, match="ppo"):
        train(load_config(None, [*ONE_STEP, "algorithm.name=ppo", f"run_dir={tmp_path / 'run'}"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_where_a_loop_runs_already_training_gives_the_same(tmp_path):
    """As in a notebook, whose cells run inside a loop."""

    async def notebook():
        blocking = train(load_config(None, [*ONE_STEP, f"run_dir={tmp_path / 'blocking'}"]))
        awaited = await atrain(load_config(None, [*ONE_STEP, f"run_dir={tmp_path / 'awaited'}"]))
        return blocking, awaited

    plain = train(load_config(None, [*ONE_STEP, f"run_dir={tmp_path / 'plain'}"]))
    for result in asyncio.run(notebook()):
        assert_same_weights(plain, result)


def test_cancelling_ends_after_the_step_under_way_with_a_checkpoint(tmp_path):
    stopped = Event()

    async def notebook():
        config = load_config(None, [*ONE_STEP, "train.steps=1000", f"run_dir={tmp_path / 'run'}"])
        work = asyncio.create_task(atrain(config, stop=stopped))
        while not metrics_file.exists():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    metrics_file = tmp_path / "run" / "metrics.jsonl"
    asyncio.run(notebook())
    assert stopped.is_set()
    last = max(line["step"] for line in metrics(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step_{last:06d}" / "checkpoint.json").is_file()


def test_a_task_that_is_no_search_is_trained_measured_and_drawn(tmp_path: Path, capsys) -> None:
    of_tools = [
        "env.id=examples.number_game:Numbers-v0",
        "env.kwargs={on_malformed: continue, max_turns: 3}",
        "rollout.questions=2",
        "eval.split=test",
        "eval.questions=3",
        "train.steps=1",
    ]
    result = run(tmp_path / "run", *of_tools)
    first, step, last = metrics(tmp_path / "run")
    assert first["eval_success"] == last["eval_success"] == 0 and last["eval_questions"] == 3
    assert step["success"] == 0 and 1 <= step["turns"] <= 3 and "em" not in step
    assert result.after is not None and (result.after.metric, result.after.source) == ("success", "numbers test")
    (session,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["sessions"]
    assert session["env"]["dataset"]["name"] == "numbers"
    assert [tool["function"]["name"] for tool in session["env"]["tools"]] == ["add", "double", "stop"]
    again = run(tmp_path / "run", "train.steps=2", resume=True)
    assert again.steps == 2 and again.before == result.before


@needs_gem
@pytest.mark.slow
def test_a_game_that_others_wrote_is_trained_on_as_it_is_registered(tmp_path: Path) -> None:
    forked = [
        "env.id=Gem-v0",
        "env.imports=[tests.helpers.real_games]",
        "env.kwargs={game: 'game:GuessTheNumber-v0-easy'}",
        "env.fork={how: replay, tasks: 20, tag: act, on_malformed: continue, max_turns: 3, instructions: ''}",
        "rollout.questions=2",
        "rollout.max_prompt_tokens=4000",
        "eval.split=test",
        "eval.questions=2",
        "train.steps=2",
    ]
    result = run(tmp_path / "run", *forked)
    assert result.steps == 2 and result.after is not None
    assert result.after.source == "Gem-v0 test" and result.after.metric == "success"
    steps = [line for line in metrics(tmp_path / "run") if "turns" in line]
    assert steps and all(1 <= step["turns"] <= 3 for step in steps)
    (session,) = json.loads((tmp_path / "run" / "manifest.json").read_text())["sessions"]
    assert session["env"]["fork"] == "replay" and session["env"]["dataset"]["questions"] == 20
