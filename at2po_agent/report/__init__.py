"""What a run shows: the live display, the metrics log and stored trees in the terminal."""
