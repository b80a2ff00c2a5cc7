"""Policies: anything that turns prompts of token ids into turns of token ids with their log-probabilities."""
