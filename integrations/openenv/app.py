"""The app that ``openenv.yaml`` names; ENV_ID, SPLIT and AT2PO_TOKEN configure it."""

import os

import gymnasium

from at2po_env.integrations.openenv_guard import Limits
from at2po_env.integrations.openenv_server import create_app

split = os.environ.get("SPLIT", "train")
env = gymnasium.make(f"at2po_env:{os.environ.get('ENV_ID', 'AT2PO-MicroWiki-v0')}", split=split).unwrapped
app = create_app({split: env}, limits=Limits(os.environ.get("AT2PO_TOKEN")))
