"""What this project costs, measured beside the naive way; results lie in ``results``."""
