# Two commands matter: `make demo` and `make test`. Both need only Python 3.11+, make and git; everything goes to .venv.
PYTHON ?= python3
BIN := .venv/bin
# A server has no libGL, which opencv-python wants: its headless twin takes its place (.ci/overrides.txt).
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --overrides .ci/overrides.txt
PYTEST := $(BIN)/pytest
# Without byte code each worker, broker and trainer of the tests would compile all that it imports, each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test docker quick check format bench faults gpu apt clean
help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wyolo needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@echo "making .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

.venv/.train: pyproject.toml constraints.txt | $(BIN)/uv
	@echo "installing wyolo and Ultralytics (torch with it: several GB the first time)"
	@$(UV) --editable '.[train]' opencv-python-headless
	@touch $@

.venv/.dev: .venv/.train
	@echo "installing what the tests need"
	@$(UV) --editable '.[train,dev]'
	@$(PYTEST) --collect-only -qq >/dev/null || true # compiles once what the workers would all compile together
	@touch $@

apt: # Debian's packages for the tests, where we are root
	@.ci/apt redis-server tmux gcc libc6-dev strace docker.io iptables iproute2 busybox-static openssl openssh-server docker-compose

demo: .venv/.train ## really train a small model on a generated data set, and open the cockpit
	@$(BIN)/wyolo demo

test: .venv/.dev apt ## everything that needs no GPU
	@$(PYTEST) -m "not gpu and not long" -n 2

docker: .venv/.dev apt ## only what needs a Docker daemon: the tests raise it, as root
	@$(PYTEST) -m "docker and not long" -n 2

quick: .venv/.dev ## unit and cockpit tests, under a minute
	@$(PYTEST) tests/unit tests/tui -m "not gpu and not long and not train and not docker" -n 6

check: .venv/.dev ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: .venv/.dev ## let ruff mend what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: .venv/.dev ## the numbers of docs/benchmarks.md
	@.ci/apt redis-server task-spooler strace docker.io iptables iproute2 busybox-static openssl
	@$(BIN)/python -m benchmarks

faults: .venv/.dev apt ## the long fault run
	@$(PYTEST) tests/faults tests/simulator tests/docker -m "faults" --timeout 3600

gpu: .venv/.dev ## what needs a CUDA machine
	@$(PYTEST) -m gpu -rA

clean: ## remove what was installed and built here
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
