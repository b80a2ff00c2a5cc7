"""Where things are that tests read, wherever the test stands."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CONFIGS = ROOT / "at2po_agent" / "configs"
SHARED = ROOT.parent / "shared"  # servers and real data that some machines have beside the checkout
GOLDEN = ROOT / "tests" / "golden"  # numbers of the official code
