from __future__ import annotations

from typing import Any

import pytest

from at2po_env.tasks import Metric
from examples.number_game import make_env


def test_tasks_by_id_by_seed_and_in_order() -> None:
    env = make_env()
    assert env.reset(options={"task_id": "to-17"})[1]["task_id"] == "to-17"
    drawn = [env.reset(seed=seed)[1]["task_id"] for seed in range(10)]
    assert drawn == [env.reset(seed=seed)[1]["task_id"] for seed in range(10)] and len(set(drawn)) > 1
    ordered = make_env(order="file")
    assert [ordered.reset()[1]["task_id"] for _ in range(len(ordered.tasks) + 1)] == [*ordered.tasks, ordered.tasks[0]]


def test_copies_share_the_tasks() -> None:
    shares = []
    for seed in range(3):
        env = make_env(order="file", copies=3)
        taken = [env.reset(seed=seed)[1]["task_id"]]
        while (following := env.reset()[1]["task_id"]) not in taken:
            taken.append(following)
        shares.append(taken)
    assert sorted(task for share in shares for task in share) == sorted(env.tasks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"order": "backwards"}, "order must be"),
        ({"copies": 0}, "copies must be a whole number from 1 to the 72 tasks"),
        ({"render_mode": "human"}, "render_mode"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_env(**arguments)


def test_wrong_options_and_a_share_that_nobody_knows_are_named() -> None:
    for options in ({"task": "to-17"}, {"task_id": "to-17", "snapshot": {}}):
        with pytest.raises(ValueError, match="reset takes the option task_id or snapshot"):
            make_env().reset(options=options)
    with pytest.raises(ValueError, match="copies=2 share the tasks: reset"):
        make_env(order="file", copies=2).reset()


def test_an_episode_is_rendered_with_its_scores() -> None:
    env = make_env(render_mode="ansi")
    env.reset(options={"task_id": "to-12"})
    env.step("<add>9</add>")
    assert env.render() == "12\n<add>9</add><result> 10 </result>"
    env.step("<stop></stop>")
    rendered = env.render()
    assert rendered is not None and rendered.endswith("[done] success 0, reward 0, turns 2")
    assert make_env().render() is None


def test_a_metric_is_headed_by_its_title() -> None:
    assert [str(metric) for metric in (Metric("em", title="EM"), Metric("reward"))] == ["EM", "reward"]
