"""Find passages: one protocol, several backends, one ``open(uri)``."""
