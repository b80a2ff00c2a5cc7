"""The benchmarks, the generated world and the task families, one short file each.

hotpotqa, twowiki, musique, bamboogle   questions of several hops
nq, triviaqa, popqa                     questions of one hop
benchmark             ``FileBenchmark``: reads a benchmark's files
layouts               strict readers of benchmark files
demo, demo_world      the bundled questions of every benchmark, about a fictional world
microwiki             a generated encyclopedia with questions of one to four hops
microwiki_world       its things, facts and passages
microwiki_text        its English
microwiki_questions   its questions, and the searches that answer them
microsql              a database agent's task over that world; it is no search
microsql_database     its databases, and queries that only read
microsql_play         its teacher and its baselines

To add a benchmark: a module here that exposes ``BENCHMARK``, and a line in ``at2po_env.registration.BENCHMARKS``.
To add a task family: a module here with ``make``, and a line in ``at2po_env.registration.FAMILIES``.
"""

AT2PO_BENCHMARKS = "at2po"
"""Marks this package: ``envs`` is a common name, and at2po_env.registration tells ours from another by it."""
