"""``at2po-agent plan`` as it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from at2po_agent.commands.main import main
from at2po_agent.planning import plan
from at2po_agent.planning.plan import device_memory

QUICKSTART = "quickstart"


def test_a_plan_is_printed_and_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--cfg", QUICKSTART, "--memory", "8", "rollout.questions=3"]) == 0
    said = capsys.readouterr()
    assert "of 8.0 GiB" in said.out and "880,000" in said.out and not said.err
    assert "48 │ 3 trees × 16 leaves" in said.out and "6 turns, 144 generated tokens" in said.out


def test_what_does_not_fit_is_printed_all_the_same_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--cfg", QUICKSTART, "--memory", "0.5"]) == 1
    said = capsys.readouterr()
    assert "together" in said.out
    assert said.err.startswith("at2po-agent: does not fit: ") and said.err.count("\n") == 1


@pytest.mark.parametrize(("option", "value"), [("--memory", "0"), ("--memory", "nan"), ("--processes", "0")])
def test_impossible_machines_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--cfg", QUICKSTART, option, value]) == 2
    assert option in capsys.readouterr().err


def test_processes_on_this_machines_cpus_share_its_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "device_memory", lambda device: 8 * plan.GIB)
    for words, told in ((["processes=4"], "of 2.0 GiB"), (["--processes", "3"], "of 8.0 GiB")):
        assert main(["plan", "--cfg", QUICKSTART, "policy.device=cpu", *words]) == 0
        assert told in capsys.readouterr().out


def test_a_machine_has_the_memory_that_its_kernel_gives_it() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    whole = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))
    assert 0 < device_memory("cpu") <= whole
