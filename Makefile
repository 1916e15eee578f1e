# Every command a reader or CI needs. `make help` lists them.
PYTHON ?= python3
PROFILE ?= mini
DATA ?=
ARGS ?=
EXPERIMENT ?=
HARDWARE ?=
BACKBONE ?=
# Test processes, each on one thread: more threads than cores would thrash.
JOBS ?= 2

VENV := .venv
export PIP_DISABLE_PIP_VERSION_CHECK = 1
PY := $(VENV)/bin/python
# Keep bytecode whatever an image's environment says: compiling torch and transformers would take half of every start.
export PYTHONDONTWRITEBYTECODE :=
# Byte-compiling half a million lines that are never run takes longer than installing them.
INSTALL := $(PY) -m pip install --quiet --no-compile --constraint constraints.txt
# LOCKED=0 takes the versions of constraints.txt without their hashes, for a platform that the lock does not serve.
LOCKED ?= 1
LOCK := requirements.lock
LOCKED_INSTALL := $(PY) -m pip install --quiet --no-compile --no-deps --require-hashes --requirement
HASHES := uv pip compile --quiet --no-deps --no-annotate --no-header --generate-hashes --no-emit-package torch -
INSTALLED := $(VENV)/.installed
# With every extra: what lint, type, site and bench need besides.
INSTALLED_ALL := $(VENV)/.installed-all
BACKBONES := $(or $(LORA_REPRO_CACHE),.cache/backbones)
ifneq ($(word 2,$(LORA_REPRO_CACHE)),)
$(error LORA_REPRO_CACHE=$(LORA_REPRO_CACHE) has a space, which make cannot have in a path)
endif
MINI := smollm2_135m minilm_l6
FETCHED := $(MINI:%=$(BACKBONES)/%/manifest.json)
NAMED = $(if $(ADAPTER),,echo "error: no adapter named: give ADAPTER=/path/to/roberta_base_lora_mnli.bin" >&2; exit 2; )
OVERRIDES = profile=$(PROFILE) $(if $(DATA),"paths.data='$(DATA)'") $(ARGS)

# Ctrl-C reaches make and its shell, too. The command says what it stopped; make ends by the signal without a line of its own.
STOPPABLE := trap : INT;
UNLESS_STOPPED := || { code=$$?; test $$code -ne 130 && exit $$code; kill -INT $$PPID; }
# What `make try` runs: one task with three seeds shows what one seed of a table cannot.
TRY := experiment=glue task=sentiment seed=0,1,2 row/glue=linear_probe,lora,full,adapter_h,bitfit

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup try lock fetch doctor plan test bench torture lint type reproduce-latency reproduce-authors-subspace publish tables site dashboard check-authors-adapter clean report claims render verify

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { \
	    line = sprintf("  make %-21s", $$1); n = split($$2, words, " "); \
	    for (i = 1; i <= n; i++) { if (length(line words[i]) > 78) { print line; line = sprintf("%28s", "") } line = line " " words[i] } \
	    print line }' $(firstword $(MAKEFILE_LIST))
	@echo "  with PROFILE=smoke|mini|laptop|paper  DATA=/path/to/data  EXPERIMENT=e2e"
	@echo "       ARGS='row/e2e=lora seed=0'"

setup: $(INSTALLED) $(FETCHED) ## build .venv, every package but torch by its hash, and fetch the mini backbones (once)

lock: ## write the hashes of constraints.txt's versions to requirements.lock (needs uv: pip install uv)
	@{ sed '/^# Only/,$$d; /^#/!d' $(LOCK) && sed '/^# Only/,$$d' constraints.txt | $(HASHES) && \
	   grep '^# Only' $(LOCK) && sed '1,/^# Only/d' constraints.txt | $(HASHES); } > $(LOCK).new && mv $(LOCK).new $(LOCK)

fetch: $(INSTALLED) ## fetch a backbone: BACKBONE=mpnet_base (a run also fetches the one it needs)
	@$(PY) -m lora_repro fetch $(BACKBONE)

doctor: ## check that what PROFILE needs is here: a tick each, or the command that fixes it
	@$(if $(wildcard $(PY)),$(PY),$(PYTHON)) -m lora_repro doctor $(if $(EXPERIMENT),experiment=$(subst -,_,$(EXPERIMENT))) $(OVERRIDES)

plan: $(INSTALLED) ## estimate what EXPERIMENT=e2e, or a grid in ARGS, would run and cost, here or on HARDWARE=a100|h100|4090|t4
	@$(PY) -m lora_repro plan $(if $(EXPERIMENT),experiment=$(subst -,_,$(EXPERIMENT)))$(HARDWARE:%= hardware=%) $(OVERRIDES)

test: setup ## run the test suite
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) $(ARGS)

bench: setup $(INSTALLED_ALL) ## benchmark against other libraries, in CPU seconds of one thread; writes results/bench/
	@OMP_NUM_THREADS=1 $(PY) -m tests.benchmarks $(ARGS)

torture: setup ## stress test: kill runs, damage files, give bad input for half an hour, then meet each write of each command, hours; writes results/torture/ (QUICK=1: two minutes, writes nothing)
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(PY) -m tests.torture $(if $(QUICK),--quick) $(ARGS)

lint: $(INSTALLED_ALL) ## ruff
	@$(PY) -m ruff check .

type: $(INSTALLED_ALL) ## mypy
	@$(PY) -m mypy

# A sweep prints its table itself, even if a run failed; a command that is refused prints only why.
try: setup ## the first command: five methods on a sentence task, three seeds, minutes; ends in intervals and what they mean
	@$(STOPPABLE) $(PY) -m lora_repro.run $(TRY) profile=mini $(ARGS) $(UNLESS_STOPPED)

reproduce-%: setup ## run an experiment (reproduce-e2e), then print its table beside the published one and the paper's (ARGS=all: also the rows that mini leaves out)
	@$(STOPPABLE) $(PY) -m lora_repro.run experiment=$(subst -,_,$*) $(OVERRIDES) $(UNLESS_STOPPED)

# Trains nothing: it measures forward passes and training steps. Best on a quiet machine.
reproduce-latency: setup ## measure what each method costs in time, memory and disk, then print the tables
	@status=0; \
	$(PY) -m lora_repro latency $(OVERRIDES) || status=$$?; \
	$(PY) -m lora_repro render latency $(OVERRIDES) || status=$$?; \
	exit $$status

# Writes measurements of the adapter, none of its tensors.
reproduce-authors-subspace: $(INSTALLED) ## analyse the authors' own adapter (spectra, shared directions, intruders) into results/authors/: ADAPTER=/path/to/it
	@$(NAMED)$(PY) -m lora_repro subspace "$(ADAPTER)" --base roberta_base --to results/authors

verify: $(INSTALLED) ## compare this checkout's finished runs with the published ones: EXPERIMENT=e2e (exit status: lora-repro verify)
	@$(PY) -m lora_repro verify $(if $(EXPERIMENT),experiment=$(subst -,_,$(EXPERIMENT))) $(OVERRIDES)

publish: $(INSTALLED) ## copy this checkout's finished, clean records of PROFILE to results/ (FORCE=1 replaces)
	@$(PY) -m lora_repro publish profile=$(PROFILE)

tables: $(INSTALLED) ## re-render every published table and figure from results/, offline
	@$(PY) -m lora_repro render tables

dashboard: $(INSTALLED) ## save PROFILE's dashboard to W&B (needs WANDB_API_KEY; DRY_RUN=1 prints it instead)
	@$(PY) -m lora_repro dashboard profile=$(PROFILE)

# With DATA the page shows the data's own texts, so it is written under runs/, which git ignores.
report: $(INSTALLED) ## build results/<profile>/report.html of every published profile; with DATA: PROFILE's alone, with its texts, in runs/
	@$(PY) -m lora_repro render report $(if $(DATA),profile=$(PROFILE) "paths.data='$(DATA)'")

site: $(INSTALLED_ALL) ## build site/ for any static host: results, claims, docs and API
	@$(PY) -m mkdocs build --clean && echo "open site/index.html"

render: $(INSTALLED) ## tables, claims and report in one process, twice as fast
	@$(PY) -m lora_repro render

claims: $(INSTALLED) ## judge every claim of the paper by what results/ holds, offline; writes results/claims.md
	@$(PY) -m lora_repro render claims

# The paper's scale, whatever PROFILE says: RoBERTa base from the model hub; MNLI too, unless DATA names a folder with MNLI/.
check-authors-adapter: $(INSTALLED) ## accuracy of the authors' own adapter on MNLI: ADAPTER=/path/to/roberta_base_lora_mnli.bin
	@$(NAMED)$(PY) -m lora_repro score "$(ADAPTER)" $(if $(DATA),"paths.data='$(DATA)'",task.source=hub) $(ARGS)

clean: ## remove .venv and what tools leave behind; runs/, results/ and fetched backbones stay
	@rm -rf $(VENV) build site outputs multirun .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find lora_repro experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: $(PYTHON) is too old; lora_repro needs Python 3.11 or newer: make setup PYTHON=python3.11")'
	@echo "building $(VENV) (some minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
ifeq ($(LOCKED),1)
	@sed '/^# Only/,$$d' $(LOCK) > $(VENV)/setup.lock
	@$(LOCKED_INSTALL) $(VENV)/setup.lock
else
	@$(INSTALL) hatchling editables
endif
	@$(INSTALL) --no-build-isolation --editable '.[test]'
	@touch $@

$(INSTALLED_ALL): $(INSTALLED)
ifeq ($(LOCKED),1)
	@$(LOCKED_INSTALL) $(LOCK)
endif
	@$(INSTALL) --no-build-isolation --editable '.[test,dev,docs,bench,ray,deberta]'
	@touch $@

$(FETCHED): $(BACKBONES)/%/manifest.json: conf/backbone/%.yaml | $(INSTALLED)
	@$(PY) -m lora_repro fetch $*
	@touch $@
