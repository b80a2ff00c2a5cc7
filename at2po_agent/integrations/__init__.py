"""The method inside other trainers: one core of plain tensors, and a thin plug-in for each framework.

loss               ``turn_loss``: the turn-level ratio and clip, on padded rows
credit             ``turn_credit``: turn-wise credit of trajectories that share prefixes

Both call the objectives and credits of ``at2po_agent.method`` and need torch and numpy only.
"""

from at2po_agent.integrations.credit import Trajectory as Trajectory
from at2po_agent.integrations.credit import padded_advantages as padded_advantages
from at2po_agent.integrations.credit import token_advantages as token_advantages
from at2po_agent.integrations.credit import tree_of as tree_of
from at2po_agent.integrations.credit import turn_credit as turn_credit
from at2po_agent.integrations.loss import runs_of as runs_of
from at2po_agent.integrations.loss import token_losses as token_losses
from at2po_agent.integrations.loss import turn_loss as turn_loss
