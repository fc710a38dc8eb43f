# The doors of the lab; `make` alone lists them. Each is one subcommand of `python -m lab`, and passes on the options
# that are set: make compare SERVERS=8 STRATEGIES="sticky redis". All of them: .venv/bin/python -m lab compare --help
PYTHON ?= python3
LAB := .venv/bin/python -m lab
# Packages of another project would stand in for the lab's own.
unexport PYTHONPATH PYTHONHOME
# Handed over by the environment, so that spaces and quotes in a value stay what they are.
OPTIONS = $${SERVERS:+"--servers=$$SERVERS"} $${RATE:+"--rate=$$RATE"} $${BLOCKS:+"--blocks=$$BLOCKS"} \
	$${SEED:+"--seed=$$SEED"} $${STRATEGY:+"--strategy=$$STRATEGY"} $${STRATEGIES:+"--strategies=$$STRATEGIES"} $${WRITES:+"--writes=$$WRITES"} \
	$${REPLICATION:+"--replication=$$REPLICATION"} $${OUT:+"--out=$$OUT"} \
	$${ENGINE:+"--engine=$$ENGINE"} $${TARGET:+"--target=$$TARGET"} \
	$(if $(filter-out 0 no,$(QUICK)),--quick) $(if $(filter-out 0 no,$(FULL)),--full)

# A mistyped name would go unheeded, and minutes later a run would have answered another question. Names with an
# underscore and those of the shell are left alone: they may be meant for Docker, pip or an engine.
NAMES := SERVERS RATE BLOCKS QUICK FULL SEED STRATEGIES STRATEGY WRITES REPLICATION ENGINE TARGET OUT RUN LOADS CACHE FRESH \
	WORKERS SECONDS ELSEWHERE LISTEN STACK PUBLISH VOLUMES TESTS PYTHON
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
MISTYPED := $(filter-out $(NAMES) LAB CI COLUMNS HOME LANG MAKE% PATH SHELL TERM TMPDIR TZ -*-%,$(GIVEN))
MISTYPED := $(foreach name,$(MISTYPED),$(if $(findstring _,$(name)),,$(name)))
ifneq ($(strip $(MISTYPED)),)
$(error there is no option $(strip $(MISTYPED)). Expected, as `make help` has them by door: $(strip $(NAMES)))
endif

.PHONY: help setup compare failover scale hotspot contention saturation redis-speed cache lecture load report up swarm swarm-down test test-containers check bench lock clean .env

help: ## list the doors
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## make the environment and fetch the engines, no run (PYTHON=python3.13 to choose one)
	@$(PYTHON) lab/bootstrap.py

compare: setup ## measure the strategies, then table and report (SERVERS RATE BLOCKS QUICK=1 FULL=1 SEED STRATEGIES WRITES REPLICATION OUT; in containers: ENGINE=docker; what runs already: TARGET=deployment.toml)
	@exec $(LAB) compare $(OPTIONS)

failover: setup ## kill and stop servers and engines under load: what is lost, for how long (SERVERS RATE QUICK=1 SEED STRATEGIES OUT; in containers: ENGINE=docker)
	@exec $(LAB) failover $(OPTIONS)

scale: setup ## 1, 2, 4 and 8 servers: what grows, when others see a write, and, modelled, where each strategy stops (RATE QUICK=1 SEED OUT)
	@exec $(LAB) scale $(OPTIONS)

hotspot: setup ## few shoppers do most of the work: who gets it, and does a new server help (SERVERS RATE QUICK=1 SEED STRATEGIES OUT)
	@exec $(LAB) hotspot $(OPTIONS)

contention: setup ## sessions in the same database: are pages without a session slowed down (SERVERS LOADS="100 200" QUICK=1 SEED OUT)
	@exec $(LAB) contention $(OPTIONS) $${LOADS:+"--loads=$$LOADS"}

saturation: setup ## raise the load until shoppers wait: how much each strategy carries, and of what it ends (SERVERS QUICK=1 SEED STRATEGIES OUT)
	@exec $(LAB) saturation $(OPTIONS)

cache: setup ## a cache in front of the catalogue: when does it pay, what does it spare the origin (SERVERS RATE QUICK=1 SEED OUT)
	@exec $(LAB) cache $(OPTIONS)

redis-speed: setup ## time Redis: one session operation, millions a second, native types, a network in between (QUICK=1 SEED OUT)
	@exec $(LAB) redis-speed $(OPTIONS)

lecture: setup ## every experiment in turn, and one page of what they found (QUICK=1 SEED OUT FRESH=1)
	@exec $(LAB) lecture $(OPTIONS) $(if $(filter-out 0 no,$(FRESH)),--fresh)

load: setup ## more load than one process can send: one plan, several workers (WORKERS=4 STRATEGY=redis or TARGET=http://… RATE SECONDS SERVERS QUICK=1 SEED OUT ELSEWHERE LISTEN)
	@exec $(LAB) load $(OPTIONS) $${WORKERS:+"--workers=$$WORKERS"} \
		$(if $(SECONDS),--seconds='$(SECONDS)') \
		$${ELSEWHERE:+"--elsewhere=$$ELSEWHERE"} $${LISTEN:+"--listen=$$LISTEN"}

report: setup ## draw charts and page again from a run's files (RUN=results/compare-…, the latest if not given)
	@exec $(LAB) report "$${RUN:-results/latest}"

up: setup ## a cluster to play with, until Ctrl-C (STRATEGY=redis SERVERS=4 WRITES REPLICATION CACHE=1; all five in containers: ENGINE=docker)
	@exec $(LAB) up $${STRATEGY:+"--strategy=$$STRATEGY"} $${STRATEGIES:+"--strategies=$$STRATEGIES"} $${SERVERS:+"--servers=$$SERVERS"} \
		$${WRITES:+"--writes=$$WRITES"} $${REPLICATION:+"--replication=$$REPLICATION"} \
		$${ENGINE:+"--engine=$$ENGINE"} $(if $(filter-out 0 no,$(CACHE)),--cache)

swarm: .env ## deploy docker-compose.yml as a stack, or bring it up to date; on a swarm's manager (STACK=lab SERVERS=4 LAB_IMAGE BALANCER_IMAGE PUBLISH=1)
	@$(PYTHON) -m lab.containers.swarm deploy

swarm-down: ## remove the stack (STACK=lab; with VOLUMES=1 also what this machine has stored for it)
	@$(PYTHON) -m lab.containers.swarm remove

.env: # the secrets that docker-compose.yml needs; those that are there stay as they are
	@$(PYTHON) -m lab.containers.env_file

test: ## everything, from nothing: lint, format, types, tests
	@$(PYTHON) lab/bootstrap.py --tests
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy
	@.venv/bin/python -m pytest -n 4 || { status=$$?; [ $$status = 1 ] || exit $$status; \
	echo "Many of these tests give real engines so many seconds. What failed is tried once more, with nothing beside it."; \
	.venv/bin/python -m pytest --last-failed --last-failed-no-failures none; }

test-containers: ## the containers: build and run docker-compose.yml for real; needs Docker and Compose (TESTS=tests/containers/test_compose.py)
	@$(PYTHON) lab/bootstrap.py --tests
	@.venv/bin/python -m lab.containers.images
	@.venv/bin/python -m pytest $${TESTS:-tests/containers} || { status=$$?; [ $$status = 1 ] || exit $$status; \
	echo "What failed is tried once more."; \
	.venv/bin/python -m pytest --last-failed --last-failed-no-failures none $${TESTS:-tests/containers}; }

check: ## while developing: put format and lint right where a tool can, then test
	@$(PYTHON) lab/bootstrap.py --tests
	.venv/bin/python -m ruff format .
	.venv/bin/python -m ruff check --fix .
	@$(MAKE) --no-print-directory test

bench: ## what the lab itself costs, and a session: every file in benchmarks/ (QUICK=1)
	@$(PYTHON) lab/bootstrap.py --tests
	@for file in benchmarks/[a-z]*.py; do .venv/bin/python -m benchmarks.$$(basename $$file .py) $(if $(QUICK),--quick) || exit; done

lock: ## refresh requirements.lock from pyproject.toml
	@$(PYTHON) lab/bootstrap.py --lock
	.venv/bin/python -m lab.lock

clean: ## remove the environment and the caches; results/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
