# Everything from a bare machine with Python, a C++20 compiler and make; each target sets up what it needs in VENV.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
DIST ?= dist
BASE ?= HEAD
QUIET ?= -qq
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)

BIN := $(VENV)/bin
BUILD := $(VENV)/build
PIP := $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check
EDITABLE := $(PIP) --no-build-isolation --config-settings=build-dir=$(abspath $(BUILD)) -e
CXX_FILES := $(shell find csrc bench tests metal tools -name '*.cpp' -o -name '*.h') $(shell find python/deltamoe_sim/include -type f)

.PHONY: help build demo test sim cross bench bench-check bench-pair bench-planted bench-kernels bench-peers track lint tidy clean

help:
	@echo "make demo | test | sim FILE=... | cross | bench | bench-check | bench-pair BASE=... | bench-planted | bench-kernels | bench-peers | track | lint | tidy | build | clean    (ARGS=... passes arguments on)"

build: $(VENV)/.built

demo: $(VENV)/.built
	@echo "deltamoe: demo: a small model on disk, generated from with stock mlx-lm and with deltamoe"
	@$(BIN)/deltamoe demo $(ARGS)

test: lint
	@echo "deltamoe: test: pytest"
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS)

sim: $(VENV)/.dev
	@$(BIN)/python -m deltamoe_sim $(FILE) $(ARGS)

cross: $(VENV)/.dev
	@echo "deltamoe: cross: the wheel for macOS on arm64, built here, and whether a Mac can load it (two minutes)"
	@$(BIN)/python tools/cross/build.py $(VENV)/cross $(DIST)

bench: $(VENV)/.dev
	@echo "deltamoe: bench: kernels beside mlx-lm and the machine's limits (six minutes; ARGS=-k TEXT chooses, ARGS=--full is all)"
	@$(BIN)/python -m pytest -q bench --benchmark-only $(ARGS)

bench-check: $(VENV)/.dev
	@echo "deltamoe: bench-check: ratios of speed against bench/baseline.json"
	@$(BIN)/python -m bench.check $(ARGS)

bench-pair: $(VENV)/.dev
	@echo "deltamoe: bench-pair: the kernels of $(BASE), built now, and those that are installed (two minutes)"
	@$(BIN)/python -m bench.pair $(BASE) $(ARGS)

bench-planted: $(VENV)/.dev
	@echo "deltamoe: bench-planted: is a slowdown of 5% seen, and none without one? (two builds, ten minutes)"
	@$(BIN)/python -m bench.planted $(ARGS)

bench-kernels: $(VENV)/.dev
	@echo "deltamoe: bench-kernels: each kernel on one thread, beside the FMA peak (ARGS=avx2 chooses an instruction set)"
	@$(BIN)/cmake --build $(BUILD) --target bench_kernels -- -v > $(BUILD)/bench_kernels.log || (cat $(BUILD)/bench_kernels.log; false)
	@$(BUILD)/bench_kernels $(ARGS)

bench-peers: $(VENV)/.peers
	@echo "deltamoe: bench-peers: llama.cpp's CPU kernels beside ours (ARGS=model: a whole tiny model)"
	@$(BIN)/python -m bench.peers $(or $(ARGS),kernels)

track: $(VENV)/.dev
	@echo "deltamoe: track: a small set of figures, kept in $(DIST)/track (two minutes)"
	@mkdir -p $(DIST)/track
	@$(BIN)/deltamoe demo --tokens 2 --rounds 1 --model-dir $(VENV)/tiny > /dev/null
	@$(BIN)/deltamoe track record --model $(VENV)/tiny --prefill 128 --decode-depth 0,512 --rounds 12 --stock \
		--db $(DIST)/track/track.db --json $(DIST)/track/tokens.json $(ARGS)
	@$(BIN)/python -m pytest -q bench --benchmark-only -k "35B-A3B and bf16 and decode and not batch" \
		--record --db $(DIST)/track/track.db --benchmark-json $(DIST)/track/kernels.json
	@$(BIN)/deltamoe track report --db $(DIST)/track/track.db -o $(DIST)/track/report.html

lint: $(VENV)/.dev
	@echo "deltamoe: lint: ruff, mypy, clang-format"
	@$(BIN)/ruff format --quiet --check --diff .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary python/deltamoe python/deltamoe_sim
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

tidy: $(VENV)/.dev
	@echo "deltamoe: tidy: clang-tidy"
	@sed -n 's/^ *"file": "\(.*\)",*$$/\1/p' $(BUILD)/compile_commands.json | \
		grep -vF "$(abspath $(BUILD))/" | \
		xargs -n 1 -P $(CMAKE_BUILD_PARALLEL_LEVEL) $(BIN)/clang-tidy --quiet -p $(BUILD)

clean:
	@echo "deltamoe: clean: removing $(VENV) and caches"
	@rm -rf "$(VENV)" .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks

# ---- set-up: each stamp is made again when what it rests on changes --------------------------------------------------
$(VENV)/.tools: pyproject.toml
	@echo "deltamoe: setting up $(VENV): build tools"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^requires = \[/,/^\]/s/^ *"\(.*\)",$$/\1/p' pyproject.toml > $(VENV)/build-requires.txt
	@$(PIP) 'cmake>=3.26' ninja -r $(VENV)/build-requires.txt
	@touch $@

$(VENV)/.built: $(VENV)/.tools CMakeLists.txt csrc/metal/embed.py $(CXX_FILES)
	@echo "deltamoe: building and installing the package into $(VENV)"
	@$(EDITABLE) ".[cpu,track]"
	@touch $@

$(VENV)/.peers: pyproject.toml | $(VENV)/.dev
	@echo "deltamoe: building llama.cpp for this CPU into $(VENV) (ten minutes or more)"
	@sed -n '/^peers = \[/,/^\]/s/^ *"\(.*\)",.*$$/\1/p' pyproject.toml > $(VENV)/peers.txt
	@CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" $(PIP) --no-build-isolation -r $(VENV)/peers.txt
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.built
	@echo "deltamoe: installing test and lint tools into $(VENV)"
	@$(EDITABLE) ".[cpu,dev]"
	@touch $@
