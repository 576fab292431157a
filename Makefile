# netemu: what people and CI run. Every target works on a fresh machine with Python 3.11 or later.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

.PHONY: demo test conformance lint format bench lock clean

# A capture of Linux's own TCP, frames to 64 kB, through the virtio-net receive path.
demo: $(VENV)/installed
	@mkdir -p build
	$(BIN)/netemu replay pcaps/web.pcapng -o build/demo.pcapng --journey
	$(BIN)/netemu show build/demo.pcapng --frames 12

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Which clauses of the specification have a test, and which do not apply.
conformance: $(VENV)/installed-test
	$(BIN)/python -m tests.conformance

lint: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Against editcap, tcpreplay, DPDK and ns-3, as far as they are installed; needs 6 GB of disk and twenty minutes.
bench: $(VENV)/installed-test
	$(BIN)/python -m bench --json bench.json

$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .[test]
	@touch $@

# The versions that are installed now become the ones that everybody gets.
lock: $(VENV)/installed-test
	@echo '# Exact versions that the tests ran with. Made by `make lock`; used as constraints by the Makefile.' > requirements.lock
	@$(BIN)/python -m pip freeze --exclude-editable --exclude setuptools >> requirements.lock

clean:
	rm -rf $(VENV) build
