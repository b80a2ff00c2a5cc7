"""Judging: run models as search agents on the environments, and leave results that others can trust and re-run."""
