"""Evaluation suites of others that play our environments; each file needs an extra, and only commands import it.

inspect_tasks   Inspect's tasks, solver, scorer and tool: ``inspect eval at2po/hotpotqa`` (``at2po[inspect]``)
inspect_log     our evaluations as logs of Inspect: ``at2po-agent export-traces --format inspect``

A server over OpenEnv's protocol, and tables of tasks, need no agent: they are in ``at2po_env.integrations``.
"""
