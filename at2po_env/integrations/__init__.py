"""Our environments where their users already are; each file needs an extra, and nothing else imports it.

openenv_server  an OpenEnv server of any environment, with forks (``at2po[openenv]``)
openenv_client  OpenEnv's client with forks
openenv_remote  ``RemoteEnv``: a server's environment as ``grow`` takes it
openenv_wire    their messages
openenv_tasks   the tasks that a server lists
openenv_snapshots  the snapshots that a server keeps
openenv_guard   token, size of messages, idle time
tables          tasks as a Hugging Face dataset (``at2po[datasets]``) and as Search-R1's Parquet (``at2po[parquet]``)
"""
