"""The benchmarks and the generated world: data only, one short file each."""
