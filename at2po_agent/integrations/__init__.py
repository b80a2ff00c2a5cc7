"""Our episodes and our method in software of others, one file for each; nothing else imports them.

loss               ``turn_loss``: the turn-level ratio and clip, on padded rows of any trainer
credit             ``turn_credit``: turn-wise credit of trajectories that share prefixes

verl               verl 0.9: a policy loss and an advantage estimator in its registries
skyrl              SkyRL 0.3: the same
prime_rl           prime-rl: a loss and an advantage function
slime              slime: trees as siblings, an advantage and a loss function
trl_search         TRL 1.16: search questions as environments (``at2po[trl]``)
trl_trees          TRL 1.16: trees in its asynchronous trainer

inspect_tasks      Inspect's tasks, solver, scorer and tool: ``inspect eval at2po/hotpotqa`` (``at2po[inspect]``)
inspect_model      Inspect's model, as the endpoint of an episode
inspect_log        our evaluations as logs of Inspect: ``at2po-agent export-traces --format inspect``

The first two call the objectives and credits of ``at2po_agent.method``. They, ``verl``, ``skyrl`` and ``prime_rl`` need
torch and numpy only, so they go into any trainer's environment (``pip install --no-deps at2po``). To add a framework:
a file here, its tests, a page in ``docs/integrations/`` and a lock in ``integrations/locks/``. A server over OpenEnv's
protocol and tables of tasks need no agent: they are in ``at2po_env.integrations``.
"""

from at2po_agent.integrations.credit import Trajectory as Trajectory
from at2po_agent.integrations.credit import padded_advantages as padded_advantages
from at2po_agent.integrations.credit import token_advantages as token_advantages
from at2po_agent.integrations.credit import tree_of as tree_of
from at2po_agent.integrations.credit import turn_credit as turn_credit
from at2po_agent.integrations.loss import runs_of as runs_of
from at2po_agent.integrations.loss import token_losses as token_losses
from at2po_agent.integrations.loss import turn_loss as turn_loss
