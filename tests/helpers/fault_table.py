"""The table that ``make faults`` prints: one line for each fault that users reported, passed or failed.

A test of such a fault carries ``@pytest.mark.fault("K: a log-probability that is null")``.
"""

from collections import defaultdict

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.user_properties += [("fault", mark.args[0]) for mark in item.iter_markers("fault")]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.getoption("markexpr") != "fault":
        return
    outcomes: dict[str, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "fault":
                    outcomes[value].append(outcome)
    terminalreporter.section("faults that users reported")
    for fault, results in sorted(outcomes.items()):
        passed = results.count("passed")
        verdict = "pass" if passed == len(results) else "FAIL"
        terminalreporter.write_line(f"{verdict}  {passed} of {len(results)} tests  {fault}")
