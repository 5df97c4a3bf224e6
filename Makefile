# perfbench: `make` lists what there is. `make run` and `make test` set up everything they need by themselves.

WORKLOAD ?= criteo
SUB ?= baseline
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(if $(shell command -v $(name) >/dev/null 2>&1 && $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(name))) python3)
BIN := .venv/bin
ONE_THREAD := OMP_NUM_THREADS=1

# Only what was given is passed on, so that the defaults stay in configs/.
OVERRIDES := workload=$(WORKLOAD) submission=$(SUB) \
	$(if $(SCALE),scale=$(SCALE)) $(if $(DATA),data=$(DATA)) $(if $(NPROC),cluster.nproc_per_node=$(NPROC)) \
	$(if $(CLUSTER),cluster=$(CLUSTER)) $(if $(STUDY),study=$(STUDY)) $(if $(TRIAL),trial=$(TRIAL)) \
	$(if $(SEED),seed=$(SEED)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup run sweep score show doctor test test-fast test-gpu fmt lint types arch check \
	bench-harness bench-loader bench-embedding bench-score clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: WORKLOAD SUB SCALE DATA NPROC CLUSTER STUDY TRIAL SEED, and ARGS="key=value ..." for the rest.\n'

##@ Measure
run: setup ## one trial here:      make run WORKLOAD=criteo SUB=shampoo [NPROC=2] [TRIAL=3]
	@$(BIN)/perfbench run $(OVERRIDES)

sweep: setup ## all trials of a study: make sweep WORKLOAD=criteo SUB=shampoo [STUDY=0]
	@$(BIN)/perfbench sweep $(OVERRIDES)

score: setup ## leaderboard of what is in runs/
	@$(BIN)/perfbench score $(or $(RUNS),runs)

show: setup ## the composed, typed configuration of a run
	@$(BIN)/perfbench show $(OVERRIDES)

doctor: setup ## look at this machine
	@$(BIN)/perfbench doctor

##@ Develop
setup: ## create .venv with everything in it; does nothing when that is done
	@$(PYTHON) tools/setup_environment.py

test: setup ## the whole suite, on a CPU
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup

test-fast: setup ## without the slow tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m "not slow"

test-gpu: setup ## what needs a GPU
	$(BIN)/python -m pytest -m gpu

fmt: setup ## format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## mypy, strict
	$(BIN)/mypy src submissions tests tools benchmarks

arch: setup ## import contracts
	PYTHONPATH=. $(BIN)/lint-imports

check: lint types arch test ## all of the above: exactly what CI does

##@ Benchmark
bench-harness: setup ## time per step in the engine over a bare loop, in one run
	@$(ONE_THREAD) $(BIN)/python benchmarks/harness.py

bench-loader: setup ## rows per second: binary loader over parsing text
	@$(ONE_THREAD) $(BIN)/python benchmarks/criteo_loader.py

bench-embedding: ## nn.Embedding against torchrec under torch.compile (installs torchrec)
	@$(PYTHON) tools/setup_environment.py --with-torchrec
	@$(ONE_THREAD) $(BIN)/python benchmarks/embedding.py

bench-score: setup ## scoring the published logs and 100,000 synthetic trials
	@$(BIN)/python benchmarks/score.py

clean: ## caches; never touches runs/ or data/
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
