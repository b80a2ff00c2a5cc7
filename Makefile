PYTHON ?= .venv/bin/python

.PHONY: check lint types imports test

check: lint types imports test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

imports:
	$(PYTHON) -m importlinter.cli lint 2>/dev/null || $(dir $(PYTHON))lint-imports

test:
	$(PYTHON) -m pytest -m "not slow and not service"
