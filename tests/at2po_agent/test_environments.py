import importlib

import gymnasium
import pytest

from at2po_agent.environments import check_env_id, make_env, takes
from at2po_agent.settings import ConfigError
from at2po_env import Forkable, ForkError
from at2po_env.dataset import DataError, DataNotFound
from tests.helpers import foreign_games  # noqa: F401 (registers its games)


def test_it_makes_what_gymnasium_knows_without_wrappers():
    env = make_env("AT2PO-MicroWiki-v0", "dev", {"world": "tiny", "k": 2})
    assert env.dataset.split == "dev" and env.rules.k == 2
    env.close()


@pytest.mark.parametrize(
    ("env_id", "split", "kwargs", "message"),
    [
        ("AT2PO-Nothing-v0", "dev", {}, "env.id: .*AT2PO-Nothing"),
        ("AT2PO-MicroWiki-v0", "dev", {"worlds": "tiny"}, "has no argument 'worlds'.*world"),
        ("AT2PO-MicroWiki-v0", "night", {"world": "tiny"}, "night"),
        ("AT2PO-MicroWiki-v0", "dev", {"world": "tiny", "dialect": "latin"}, "dialect: there is no 'latin'"),
        ("AT2PO-MicroWiki-v0", "dev", {"world": "tiny", "split": "test"}, "set it as env.split for train"),
    ],
)
def test_what_is_wrong_is_one_error_without_gymnasiums_tail(env_id, split, kwargs, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_env(env_id, split, kwargs)
    assert "environment creator" not in str(error.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("AT2PO-HotpotQB-v0", "Did you mean: `AT2PO-HotpotQA`?"),
        ("microwik", "Did you mean: `AT2PO-MicroWiki-v0`?"),
        ("at2po-nq-v0", "Did you mean: `AT2PO-NQ-v0`?"),
        ("AT2PO-maze-v0", "Did you mean: `AT2PO-Maze"),
    ],
)
def test_of_an_unknown_id_the_nearest_is_named(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_env_id(typed)
    assert meant in str(caught.value) and str(caught.value).count("Did you mean") == 1


@pytest.mark.parametrize(
    ("env_id", "argument", "taken"),
    [
        ("AT2PO-MicroWiki-v0", "dialect", True),
        ("examples.number_game:Numbers-v0", "dialect", True),
        ("CartPole-v1", "sutton_barto_reward", True),
        ("CartPole-v1", "dialect", False),
        ("CartPole", "dialect", True),  # which version it is, only making it says
    ],
)
def test_what_an_environment_takes_is_read_from_its_factory(env_id, argument, taken):
    importlib.import_module("examples.number_game")
    assert takes(env_id, argument) is taken


def test_other_environments_are_refused():
    gymnasium.register("Cart-v0", entry_point=lambda split: gymnasium.make("CartPole-v1").unwrapped)
    with pytest.raises(ConfigError, match="Cart-v0 is not forkable"):
        make_env("Cart-v0", "dev", {})
    del gymnasium.registry["Cart-v0"]


@pytest.mark.parametrize(
    ("fork", "how", "tasks", "stop"),
    [("replay", "replay", 1000, ()), ({"how": "copy", "tasks": 5, "tag": "act"}, "copy", 5, ("</act>",))],
)
def test_an_environment_of_others_is_made_forkable(fork, how, tasks, stop):
    env = make_env("Dice-v0", "test", {"fork": fork, "sides": 4})
    assert isinstance(env, Forkable) and (env.how, len(env.tasks), env.stop) == (how, tasks, stop)
    assert env.tasks[0] == "seed-2000000" and "You have" in env.reset(seed=1)[0]
    assert make_env("AT2PO-MicroWiki-v0", "dev", {"world": "tiny", "fork": "copy"}).dataset.split == "dev"


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("Dice-v0", {}, "unexpected keyword argument 'split'.*not forkable, env.fork=copy or env.fork=replay"),
        ("Dice-v0", {"fork": "clone"}, "Dice-v0: how must be one of"),
        ("Dice-v0", {"fork": {"tags": "x"}}, "Dice-v0: fork has no tags; it has how, tasks, .*tag"),
        ("Dice-v0", {"fork": "copy", "size": 3}, "unexpected keyword argument 'size'"),
        ("Dice-v0", {"fork": 7}, "Dice-v0: fork must be copy, replay or a mapping.*got 7"),
        ("Dice-v9", {"fork": "copy"}, "env.id: .*Dice"),
    ],
)
def test_what_is_wrong_with_a_fork_is_one_error(env_id, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make_env(env_id, "train", kwargs)


def test_other_spaces_are_named():
    with pytest.raises(ForkError, match="Pixels-v0 has observation_space=Box"):
        make_env("Pixels-v0", "train", {"fork": "copy"})


def test_missing_and_bad_data_keep_their_own_errors(tmp_path):
    with pytest.raises(DataNotFound):
        make_env("AT2PO-HotpotQA-v0", "dev", {"data_dir": str(tmp_path)})
    (tmp_path / "hotpot_dev_distractor_v1.json").write_text('[{"_id": "1", "question": "Who?"}]')
    with pytest.raises(DataError, match=r"hotpot_dev_distractor_v1\.json"):
        make_env("AT2PO-HotpotQA-v0", "dev", {"data_dir": str(tmp_path)})
