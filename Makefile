# Everything from a bare machine with Python, a C++20 compiler and make; each target sets up what it needs in VENV.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
DIST ?= dist
QUIET ?= -qq
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)

BIN := $(VENV)/bin
BUILD := $(VENV)/build
PIP := $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check
EDITABLE := $(PIP) --no-build-isolation --config-settings=build-dir=$(abspath $(BUILD)) -e
CXX_FILES := $(shell find csrc bench tests metal tools -name '*.cpp' -o -name '*.h') $(shell find python/deltamoe_sim/include -type f)

.PHONY: help build demo test sim cross bench bench-kernels lint tidy clean

help:
	@echo "make demo | test | sim FILE=... | cross | bench | bench-kernels | lint | tidy | build | clean    (ARGS=... passes arguments on)"

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
	@echo "deltamoe: bench: pytest-benchmark suites of bench/"
	@$(BIN)/python -m pytest -q bench --benchmark-only $(ARGS)

bench-kernels: $(VENV)/.dev
	@echo "deltamoe: bench-kernels: each kernel on one thread, beside the FMA peak (ARGS=avx2 chooses an instruction set)"
	@$(BIN)/cmake --build $(BUILD) --target bench_kernels -- -v > $(BUILD)/bench_kernels.log || (cat $(BUILD)/bench_kernels.log; false)
	@$(BUILD)/bench_kernels $(ARGS)

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
	@$(EDITABLE) ".[cpu]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.built
	@echo "deltamoe: installing test and lint tools into $(VENV)"
	@$(EDITABLE) ".[cpu,dev]"
	@touch $@
