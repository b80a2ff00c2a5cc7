"""The notebook is run from its first cell to its last, with less training than it asks for."""

from __future__ import annotations

import json
import re

import pytest

from tests.helpers.places import EXAMPLES

NOTEBOOK = EXAMPLES / "quickstart.ipynb"
PUBLIC = {"at2po_agent", "gymnasium", "IPython", "json", "matplotlib", "pathlib", "tempfile"}


def sources() -> list[str]:
    return [
        "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def test_it_imports_only_what_is_public() -> None:
    imports = re.findall(r"^(?:import|from) (\S+)(?: import (.+))?", "\n".join(sources()), re.M)
    assert {module.split(".")[0] for module, _ in imports} == PUBLIC
    assert [module for module, _ in imports if module.startswith("at2po")] == ["at2po_agent"]


def test_it_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_it_trains_plots_draws_and_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = notebook.cells[1]
    parameters.source, changed = re.subn(r"= \d+", "= 2", parameters.source)
    assert changed == 2
    # Without a limit of its own: pytest's holds.
    nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", ())}
    assert {"image/png", "image/svg+xml"} <= kinds
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert re.search(r"\d+ steps, \d+ trees.*\nexact match on 2 test questions: ", said)
    assert said.count("reward ") == 3 and re.search(r": reward 1 after \d turns$", said.rstrip())
