"""The benchmarks and the generated world: data only, one short file each."""

AT2PO_BENCHMARKS = "at2po"
"""Marks this package: ``envs`` is a common name, and at2po_env.registration tells ours from another by it."""
