"""The benchmarks, the generated world, and the task families that are no search: one short file each.

hotpotqa, twowiki, musique, bamboogle   questions of several hops
nq, triviaqa, popqa                     questions of one hop
benchmark             ``FileBenchmark``: reads a benchmark's files
layouts               strict readers of benchmark files
demo, demo_world      the bundled questions of every benchmark, about a fictional world
microwiki             a generated encyclopedia with questions of one to four hops
microwiki_world       its things, facts and passages
microwiki_text        its English
microwiki_questions   its questions, and the searches that answer them
maze                  rooms and keys: a task of eight turns and more with its reward at the end
maze_world            its layout, made from a seed
maze_players          its baselines, and a traveller with faults to imitate
microsql              a database agent's task over MicroWiki's world
microsql_database     its databases, and queries that only read
microsql_play         its teacher and its baselines

To add a benchmark: a module here that exposes ``BENCHMARK``, and a line in ``at2po_env.registration.BENCHMARKS``.
To add a task family: its environment here, and a line in ``at2po_env.registration.TASK_FAMILIES``.
"""

AT2PO_BENCHMARKS = "at2po"
"""Marks this package: ``envs`` is a common name, and at2po_env.registration tells ours from another by it."""
