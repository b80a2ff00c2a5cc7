"""The core goes into any trainer's environment: it needs torch and numpy."""

import subprocess
import sys

BLOCKED = """
import sys
import numpy, torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "at2po_agent", "torch", "numpy"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Refuse())
from at2po_agent.integrations import Trajectory, prime_rl, slime, turn_credit, turn_loss
logp = torch.tensor([[0.0, -1.0, -1.0]], requires_grad=True)
loss, metrics = turn_loss(logp, logp.detach(), torch.ones(1, 1), torch.tensor([[0, 1, 1]]))
loss.backward()
assert logp.grad.tolist() == [[0, -0.5, -0.5]], logp.grad
group = [Trajectory([1, 2], [0, 1], [0, -1], 1.0), Trajectory([1, 3], [0, 1], [0, -1], 0.0)]
print(turn_credit(group), metrics["clip_fraction"])
"""


def test_the_core_runs_where_every_other_package_is_missing():
    run = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[[0.99999")
