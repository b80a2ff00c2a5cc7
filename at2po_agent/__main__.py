"""``python -m at2po_agent`` is ``at2po-agent``."""

from at2po_agent.commands.main import run

if __name__ == "__main__":
    run()
