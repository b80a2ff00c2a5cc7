"""The command ``at2po-agent``: one file for each verb; to add one, list it in ``main``."""
