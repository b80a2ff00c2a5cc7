"""What all tests share: real data beside the checkout, and a mode in which nothing may skip."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.places import SHARED

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Where xdist has a worker on every core, more threads in each, and in what it starts, would only wait for those of the
# others: OpenMP's spin at every barrier. Torch reads it when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

# A shell's background job ignores Ctrl-C, and so would everything that it starts: tests of Ctrl-C send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("no-deadline", deadline=None)  # the first use of torch takes seconds; machines are shared
settings.load_profile("no-deadline")

_PLUGINS = (
    "servers",
    "elastic_double",
    "search_service",
    "sglang_server",
    "llama_server",
    "chat_server",
    "embedding_model",
    "fault_table",
)
pytest_plugins = [f"tests.helpers.{name}" for name in _PLUGINS]

DATA = Path(os.environ.get("AT2PO_DATA", SHARED / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real benchmark files: AT2PO_DATA, or shared/data beside the checkout."""
    if not DATA.is_dir():
        pytest.skip(f"no benchmark data at {DATA}; set AT2PO_DATA to a folder with the official files")
    return DATA


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """With AT2PO_NO_SKIP=1 a skipped test is a failed one: continuous integration has everything that tests need."""
    report = yield
    if report.skipped and os.environ.get("AT2PO_NO_SKIP") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although AT2PO_NO_SKIP=1: {report.longrepr}"
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep tests that need the same server on one worker, which starts it once, and begin with the longest files.

    Files that share servers name a group of their own (``--dist loadgroup``); pytest-xdist reads groups in this hook,
    so they must be known before it. A file is as long as the longest of its declared time-outs: the worker that took
    it last would go on alone. Tests of GPUs are left out where there is none: no skips, of which continuous
    integration, which has no GPU, allows none.
    """
    if (of_gpus := [item for item in items if item.get_closest_marker("gpu")]) and not _has_gpu():
        items[:] = [item for item in items if item not in of_gpus]
        config.hook.pytest_deselected(items=of_gpus)
    longest: dict[Path, float] = {}
    for item in items:
        timeout = item.get_closest_marker("timeout")
        longest[item.path] = max(longest.get(item.path, 0.0), timeout.args[0] if timeout else 0.0)
        if item.get_closest_marker("service") and not item.get_closest_marker("xdist_group"):
            fixtures = getattr(item, "fixturenames", ())
            shared = "".join(server for server in ("sglang_url", "elasticsearch_host") if server in fixtures)
            item.add_marker(pytest.mark.xdist_group(shared or item.path.stem + item.path.parent.name))
    items.sort(key=lambda item: -longest[item.path])


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
