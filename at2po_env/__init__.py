"""Multi-turn question answering with a search tool, as Gymnasium environments that fork."""
