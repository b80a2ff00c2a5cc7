from contextlib import closing

import pytest

from at2po_agent.policy.base import PolicyError
from at2po_agent.settings import ConfigError
from at2po_agent.training.config import load_config
from at2po_agent.training.session import open_session
from tests.at2po_agent.training.test_session import SMALL
from tests.helpers.servers import free_port
from tests.helpers.sglang_control import Controlled
from tests.helpers.sglang_double import serving

SGLANG = [*SMALL, "engine.kind=sglang", "deterministic=false"]


def test_a_run_that_cannot_be_repeated_does_not_say_that_it_can(tmp_path):
    with pytest.raises(ConfigError, match="deterministic=false"):
        open_session(load_config(None, [*SMALL, "engine.kind=sglang"]), tmp_path)


def test_without_urls_servers_are_started_with_the_policy_that_is_trained(tmp_path):
    command = "engine.launch.command='sh -c \"echo loading {model} at {port}; exit 1\"'"
    port = free_port()
    with pytest.raises(PolicyError, match=rf"server-0.log(.|\n)*loading .*microwiki at {port}"):
        open_session(load_config(None, [*SGLANG, command, f"engine.launch.port={port}"]), tmp_path)
    assert (tmp_path / "server-0.log").is_file()


@pytest.mark.parametrize("sync", ["disk", "tensors"])
def test_the_servers_that_are_named_get_the_weights_of_the_policy(tmp_path, sync):
    from at2po_agent.policy.loading import load_policy, resolve_policy

    model, _ = load_policy(resolve_policy("builtin:microwiki"))
    with serving(Controlled(model)) as server:
        config = load_config(None, [*SGLANG, f"engine.urls=[{server.url}]", f"engine.sync={sync}"])
        with closing(open_session(config, tmp_path)) as session:
            assert session.engine.version == 0
            session.engine.publish(session.model, 3)
        assert server.version.endswith("-3")
    assert not list(tmp_path.glob("weights/*"))  # nothing is left behind


def test_servers_with_another_model_than_the_trained_one_are_refused(tmp_path):
    from at2po_agent.policy.loading import load_policy, resolve_policy

    class Stuck(Controlled):
        """Takes no weights and says that it did."""

        def answer(self, body, **meta):
            with_torch = super().answer(body, **meta)
            for top in with_torch["meta_info"]["output_top_logprobs"]:
                top.reverse()
                for entry, logprob in zip(top, sorted((entry[0] for entry in top), reverse=True), strict=True):
                    entry[0] = logprob
            return with_torch

    model, _ = load_policy(resolve_policy("builtin:microwiki"))
    with serving(Stuck(model)) as server:
        config = load_config(None, [*SGLANG, f"engine.urls=[{server.url}]"])
        with pytest.raises(PolicyError, match="another model"):
            open_session(config, tmp_path)
