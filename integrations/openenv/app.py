"""The app that ``openenv.yaml`` names, for whoever runs uvicorn: ENV_ID and SPLIT say what it serves.

AT2PO_TOKEN has to be set, as such an app is reached from other machines.
"""

import os

import gymnasium

from at2po_env.integrations.openenv_guard import Limits
from at2po_env.integrations.openenv_server import create_app

env_id, split = os.environ.get("ENV_ID", "AT2PO-MicroWiki-v0"), os.environ.get("SPLIT", "train")
env = gymnasium.make(f"at2po_env:{env_id}", split=split).unwrapped
app = create_app({split: env}, name=env_id, limits=Limits(os.environ["AT2PO_TOKEN"]))
