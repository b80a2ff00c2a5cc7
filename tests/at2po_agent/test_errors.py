"""Errors whose message is for the user have one base in each package, and are still what they were."""

from __future__ import annotations

import pytest

from at2po_agent.atomic_files import DiskError
from at2po_agent.errors import AgentError
from at2po_agent.hub import HubError
from at2po_agent.judge.endpoint.refusals import EndpointError
from at2po_agent.judge.episodes.records import RecordError
from at2po_agent.policy.base import PolicyError, PolicyUnavailable
from at2po_agent.policy.codec import EncodingError
from at2po_agent.settings import ConfigError
from at2po_agent.training.checkpoints import CheckpointError
from at2po_agent.training.run_dir import RunDirError
from at2po_agent.update.processes import ProcessLost
from at2po_env import DataError, DataNotFound, EnvError, SnapshotError


@pytest.mark.parametrize(
    ("error", "base", "also"),
    [
        (CheckpointError, AgentError, Exception),
        (ConfigError, AgentError, ValueError),
        (DiskError, AgentError, OSError),
        (EncodingError, AgentError, ValueError),
        (EndpointError, AgentError, PolicyError),
        (HubError, AgentError, RuntimeError),
        (PolicyError, AgentError, Exception),
        (PolicyUnavailable, AgentError, PolicyError),
        (ProcessLost, AgentError, Exception),
        (RecordError, AgentError, Exception),
        (RunDirError, AgentError, Exception),
        (DataError, EnvError, ValueError),
        (DataNotFound, EnvError, FileNotFoundError),
        (SnapshotError, EnvError, ValueError),
    ],
)
def test_an_error_is_caught_by_its_base_and_says_its_message(
    error: type[Exception], base: type[Exception], also: type[Exception]
) -> None:
    assert issubclass(error, base) and issubclass(error, also)
    assert str(error("what, where and what to do")) == "what, where and what to do"
