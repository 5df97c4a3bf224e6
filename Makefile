# perfbench: `make` lists what there is. `make run` and `make test` set up everything they need by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

WORKLOAD ?= criteo
SUB ?= baseline

VARIABLES := WORKLOAD SUB SCALE DATA NPROC CLUSTER STUDY TRIAL SEED HP POINTS TRIALS ARGS RUNS NAME PYTHON
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(VARIABLES) -% MAKE%,$(GIVEN))
ifneq ($(strip $(UNKNOWN)),)
$(error unknown variable $(strip $(UNKNOWN)); there are $(VARIABLES))
endif

# Only what was given is passed on, so that the defaults stay in configs/. ARGS is split as the shell splits it.
pass = $(if $(strip $($(2))),'$(1)=$(strip $($(2)))')
OVERRIDES = $(call pass,workload,WORKLOAD) $(call pass,submission,SUB) $(call pass,scale,SCALE) $(call pass,data,DATA) \
	$(call pass,cluster,CLUSTER) $(call pass,cluster.nproc_per_node,NPROC) $(call pass,study,STUDY) \
	$(call pass,trial,TRIAL) $(call pass,seed,SEED) $(call pass,points,POINTS) \
	$(foreach item,$(HP),'hp.$(item)') $(ARGS)

BIN := .venv/bin
PERFBENCH := $(BIN)/perfbench
ONE_THREAD := OMP_NUM_THREADS=1
CODE := src submissions tests tools benchmarks
SET_UP = python=$$(PYTHON='$(PYTHON)' sh tools/find_python.sh) && "$$python" tools/setup_environment.py --profile

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' Makefile
	@printf '\nVariables: WORKLOAD SUB SCALE DATA NPROC CLUSTER STUDY TRIAL SEED HP="learning_rate=3e-4 ..." POINTS,\nand ARGS="key=value ..." for the rest.\n'

##@ Measure
.PHONY: run sweep watch table compare score report verify show show-batch profile doctor new-submission environment
run: environment ## one trial here: make run WORKLOAD=criteo SUB=shampoo [SCALE=full] [NPROC=2] [TRIAL=3] [HP="learning_rate=3e-4"]
	@$(PERFBENCH) run $(OVERRIDES)

sweep: environment ## studies and suites: make sweep WORKLOAD=criteo SUB=shampoo [STUDY=0] [HP="learning_rate=1e-4..1e-2" POINTS=8] [CLUSTER=slurm]
	@$(PERFBENCH) sweep $(OVERRIDES)

score: environment ## leaderboard of what is in runs/, or in RUNS=folder
	@$(PERFBENCH) score '$(or $(RUNS),runs)' $(ARGS)

table: environment ## trials of runs/, or of RUNS=folder, with their hyperparameters, the best first
	@$(PERFBENCH) table '$(or $(RUNS),runs)' $(ARGS)

watch: environment ## curves of what runs in runs/, or in RUNS=folder, drawn live
	@$(PERFBENCH) watch '$(or $(RUNS),runs)' $(ARGS)

compare: environment ## what differs between trials, and what came of it: make compare TRIALS="folder folder"
	@$(PERFBENCH) compare $(or $(TRIALS),$(error give TRIALS="folder folder")) $(ARGS)

report: environment ## one self-contained page of what is in runs/, or in RUNS=folder
	@$(PERFBENCH) report '$(or $(RUNS),runs)' $(ARGS)

verify: environment ## whether what is in runs/, or in RUNS=folder, can be believed
	@$(PERFBENCH) verify '$(or $(RUNS),runs)' $(ARGS)

show: environment ## the composed, typed configuration of a run
	@$(PERFBENCH) show $(OVERRIDES)

show-batch: environment ## a picture of a batch: make show-batch WORKLOAD=ogbg [ARGS="--trial FOLDER --split train"]
	@$(PERFBENCH) show-batch '$(WORKLOAD)' $(call pass,data,DATA) $(call pass,scale,SCALE) $(call pass,seed,SEED) $(ARGS)

profile: environment ## where the time of a step goes: make profile WORKLOAD=criteo SUB=shampoo
	@$(PERFBENCH) profile '$(WORKLOAD)' '$(SUB)' $(call pass,scale,SCALE) $(call pass,data,DATA) \
		$(call pass,trial,TRIAL) $(foreach item,$(HP),'hp.$(item)') $(ARGS)

doctor: environment ## look at this machine
	@$(PERFBENCH) doctor $(ARGS)

new-submission: environment ## folder and YAML of a new training algorithm: make new-submission NAME=mine
	@$(PERFBENCH) new-submission $(if $(NAME),'$(NAME)',$(error give NAME=mine)) $(ARGS)

environment:
	@$(SET_UP) run

##@ Develop
.PHONY: setup test test-fast test-gpu fmt lint types arch check docs
setup: ## create .venv with everything in it; does nothing when that is done
	@$(SET_UP) dev

test: setup ## the whole suite, on a CPU
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

test-fast: setup ## without the slow tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow" $(ARGS)

test-gpu: setup ## what needs a GPU
	$(BIN)/python -m pytest -m gpu $(ARGS)

fmt: setup ## format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup ## ruff
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup ## mypy, strict
	$(BIN)/mypy $(CODE)

arch: setup ## import contracts; the other rules of the code are tests (tests/architecture)
	PYTHONPATH=. $(BIN)/lint-imports

docs: setup ## the documentation site, into build/site/html, offline
	@PYTHONPATH=. $(BIN)/python -m tools.build_site

check: lint types arch test ## all of the above: exactly what CI does

##@ Benchmark
# Without WORKLOAD on the command line a benchmark of all workloads measures all.
CHOSEN = $(if $(filter file,$(origin WORKLOAD)),,'$(WORKLOAD)')

.PHONY: bench-harness bench-data bench-step bench-decode bench-loader bench-tokenising bench-embedding bench-libraries bench-mirror bench-score bench-shampoo bench-updates bench-newcomer mini-board kill-campaign lost-nodes
bench-harness: environment ## time per step in the engine over a bare loop, in one run
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.harness $(ARGS)

bench-data: environment ## examples per second of one core, and padding: make bench-data [WORKLOAD=ogbg]
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.loading $(CHOSEN) $(ARGS)

bench-step: environment ## a compiled step over the eager and the library model's: make bench-step WORKLOAD=wmt
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.step '$(WORKLOAD)' $(call pass,data,DATA) $(call pass,scale,SCALE) $(ARGS)

bench-decode: environment ## beam search with and without a cache, at full size (some minutes)
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.decode $(ARGS)

bench-loader: environment ## rows per second: binary loader over parsing text
	@$(ONE_THREAD) $(BIN)/python benchmarks/criteo_loader.py $(ARGS)

bench-tokenising: environment ## from parquet to token files: ARGS="--vocabulary DIR", the folder of GPT-2's two files
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.tokenising $(ARGS)

bench-embedding: environment ## nn.Embedding against torchrec under torch.compile
	@$(ONE_THREAD) $(BIN)/python benchmarks/embedding.py $(ARGS)

bench-libraries: environment ## parts that a library has too: numbers, differences, times [ARGS="--only speech"]
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.libraries $(ARGS)

bench-mirror: setup ## time per step with a W&B mirror beside the trial over without: ARGS="--mode hang"
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.mirror $(ARGS)

bench-score: environment ## scoring the published logs and 100,000 synthetic trials
	@$(BIN)/python benchmarks/score.py $(ARGS)

bench-newcomer: environment ## minutes from make new-submission to the first compared pair
	@$(BIN)/python -m benchmarks.newcomer $(ARGS)

kill-campaign: environment ## trials killed at random moments and continued: ARGS="--kills 100"
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.kill_campaign $(ARGS)

lost-nodes: environment ## trials on the Slurm of the tests, whose nodes are lost at random moments (root): ARGS="--losses 20"
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.lost_nodes $(ARGS)

mini-board: environment ## which submission reaches which mini target, resumable, into docs/mini-board.md: make mini-board ARGS="--workloads all"
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.mini_board $(ARGS)

bench-shampoo: environment ## blocks, bytes, communication and step time of shampoo at full scale's shapes
	@$(ONE_THREAD) PYTHONPATH=. $(BIN)/python benchmarks/shampoo.py $(ARGS)

bench-updates: environment ## kernels, bytes, waits, state and time of every submission's update
	@$(ONE_THREAD) $(BIN)/python -m benchmarks.updates $(ARGS)

##@ Slurm on this machine
.PHONY: slurm-up slurm-down
slurm-up: ## a real Slurm for tests: two nodes, eight declared GPUs each (root; apt-get install slurm-wlm munge)
	@bash slurm/test_cluster/cluster.sh up build/slurm

slurm-down: ## end it and all its jobs
	@bash slurm/test_cluster/cluster.sh down build/slurm

##@ Tidy
.PHONY: clean
clean: ## caches; never touches .venv/, runs/ or data/
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +
