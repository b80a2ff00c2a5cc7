"""What is shipped: the wheel's top level is the four packages, with the starting policy and the type markers."""

import subprocess
import sys
import tomllib
import zipfile

import pytest

from at2po_agent.config_files import packaged
from tests.helpers.places import ROOT


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_and_nothing_else(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"search_backend", "at2po_env", "envs", "at2po_agent"}
    assert {name.split("/")[0] for name in names} - packages == {
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    }
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    policy = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "warmstart.json"}
    for carried in ("maze", "microsql", "microwiki"):
        assert {f"at2po_agent/data/{carried}/{name}" for name in policy} <= set(names)
    page = {path.name for path in (ROOT / "at2po_agent" / "judge" / "view" / "web").iterdir()}
    assert page >= {"page.html", "page.css", "core.js"}
    assert {f"at2po_agent/judge/view/web/{name}" for name in page} <= set(names)
    configs = {path.relative_to(ROOT).as_posix() for path in packaged().values()}
    assert configs == {name for name in names if name.startswith("at2po_agent/configs/")}
    shipped = {name for name in names if name.endswith(".py")}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    ours = {
        p.relative_to(ROOT).as_posix() for package in listed for p in (ROOT / package.replace(".", "/")).glob("*.py")
    }
    assert shipped == ours


@pytest.mark.parametrize(("name", "most"), [("microwiki", 4_000_000), ("microsql", 3_000_000), ("maze", 3_000_000)])
def test_a_shipped_policy_is_small(name, most):
    files = (ROOT / "at2po_agent" / "data" / name).iterdir()
    assert sum(file.stat().st_size for file in files) <= most


def test_every_python_folder_is_in_the_package_list():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for package in ("search_backend", "at2po_env", "envs", "at2po_agent")
        for path in (ROOT / package).rglob("*.py")
    }
    assert found == listed
