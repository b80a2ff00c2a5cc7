import importlib

import gymnasium
import pytest

from at2po_agent.environments import make_env, takes
from at2po_agent.settings import ConfigError
from at2po_env.dataset import DataError, DataNotFound


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
        ("AT2PO-MicroWiki-v0", "dev", {"world": "tiny", "split": "test"}, "the split has a setting of its own"),
    ],
)
def test_what_is_wrong_is_one_error_without_gymnasiums_tail(env_id, split, kwargs, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_env(env_id, split, kwargs)
    assert "environment creator" not in str(error.value)


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


def test_missing_and_bad_data_keep_their_own_errors(tmp_path):
    with pytest.raises(DataNotFound):
        make_env("AT2PO-HotpotQA-v0", "dev", {"data_dir": str(tmp_path)})
    (tmp_path / "hotpot_dev_distractor_v1.json").write_text('[{"_id": "1", "question": "Who?"}]')
    with pytest.raises(DataError, match=r"hotpot_dev_distractor_v1\.json"):
        make_env("AT2PO-HotpotQA-v0", "dev", {"data_dir": str(tmp_path)})
