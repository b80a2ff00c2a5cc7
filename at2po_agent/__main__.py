"""``python -m at2po_agent`` is ``at2po-agent``."""

import sys

from at2po_agent.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
