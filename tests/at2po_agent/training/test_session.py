from contextlib import closing

import pytest
import torch

from at2po_agent.policy.base import PolicyError
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.session import open_session
from search_backend import EmbeddedIndex
from tests.helpers.env_doubles import TOWERS

SMALL = ["policy.path=builtin:microwiki", "env.id=AT2PO-MicroWiki-v0", "env.kwargs={world: tiny, dialect: bare, k: 1}"]


def test_the_manifest_names_what_decides_the_results():
    with closing(open_session(load_config(None, SMALL))) as session:
        first = session.manifest()
    with closing(open_session(load_config(None, [*SMALL, "env.kwargs.dialect=tags", "eval.split=test"]))) as session:
        second = session.manifest()
    assert first["env"]["dataset"]["split"] == "train" and second["eval_env"]["dataset"]["split"] == "test"
    assert first["env"]["search"]["digest"] == second["env"]["search"]["digest"]
    assert first["env"]["dialect"]["digest"] != second["env"]["dialect"]["digest"]
    assert first["policy"] == second["policy"]
    assert torch.__version__.startswith(first["packages"]["torch"])
    assert set(first["git"]) == {"commit", "clean"}


def test_the_manifest_says_where_the_index_was(tmp_path):
    EmbeddedIndex.build(tmp_path / "index", TOWERS).close()
    uri = f"embedded:{tmp_path / 'index'}"
    with closing(open_session(load_config(None, [*SMALL, f"env.kwargs.search={uri}"]))) as session:
        assert session.manifest()["env"]["search_at"] == uri
    with closing(open_session(load_config(None, SMALL))) as session:
        assert session.manifest()["env"]["search_at"] is None


def test_evaluation_can_have_its_own_arguments():
    with closing(open_session(load_config(None, [*SMALL, "eval.kwargs={k: 3}"]))) as session:
        assert (session.env.rules.k, session.eval_env.rules.k) == (1, 3)


def test_a_kl_term_brings_a_frozen_copy_of_the_start():
    with closing(open_session(load_config(None, [*SMALL, "algorithm.objective.kl_coef=0.01"]))) as session:
        assert session.reference is not None and session.reference is not session.model
        assert not any(parameter.requires_grad for parameter in session.reference.parameters())
        ours, theirs = session.model.state_dict(), session.reference.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with closing(open_session(load_config(None, SMALL))) as session:
        assert session.reference is None


@pytest.mark.parametrize(
    ("override", "kind", "message"),
    [
        ("policy.path=builtin:nothing", PolicyError, "nothing"),
        ("algorithm.name=at3po", ConfigError, "algorithm.name.*at2po"),
        ("env.imports=[no_such_module]", ConfigError, "no_such_module"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(override, kind, message):
    with pytest.raises(kind, match=message):
        open_session(load_config(None, [*SMALL, override]))
