"""The method inside other trainers: one core of plain tensors, and a thin plug-in for each framework.

loss               ``turn_loss``: the turn-level ratio and clip, on padded rows
credit             ``turn_credit``: turn-wise credit of trajectories that share prefixes

verl               verl 0.9: a policy loss and an advantage estimator in its registries
skyrl              SkyRL 0.3: the same
prime_rl           prime-rl: a loss and an advantage function
slime              slime: trees as siblings, an advantage and a loss function
trl_search         TRL 1.16: search questions as environments
trl_trees          TRL 1.16: trees in its asynchronous trainer

The first two call the objectives and credits of ``at2po_agent.method``. They, ``verl``, ``skyrl`` and ``prime_rl`` need
torch and numpy only, so they go into any trainer's environment (``pip install --no-deps at2po``). To add a framework:
a file here that calls these two, its tests, a page in ``docs/integrations/`` and a lock in ``integrations/locks/``.
"""

from at2po_agent.integrations.credit import Trajectory as Trajectory
from at2po_agent.integrations.credit import padded_advantages as padded_advantages
from at2po_agent.integrations.credit import token_advantages as token_advantages
from at2po_agent.integrations.credit import tree_of as tree_of
from at2po_agent.integrations.credit import turn_credit as turn_credit
from at2po_agent.integrations.loss import runs_of as runs_of
from at2po_agent.integrations.loss import token_losses as token_losses
from at2po_agent.integrations.loss import turn_loss as turn_loss
