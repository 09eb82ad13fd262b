# Every target makes the environment it needs under .venv/ and is one command from there.
PYTHON ?= python3
# `make test VENV_FLAGS=--system-site-packages` builds on packages that PYTHON already has, such as torch.
VENV_FLAGS ?=
DEMO := .venv/demo/bin/python
DEV := .venv/dev/bin/python
OLD := .venv/numpy1/bin/python
# `make gpu GPU_PYTHON=...`: another Python that has TensorRT and PyCUDA.
GPU_PYTHON ?= $(DEV)
# Two files of tests at a time, one thread each, the long ones before the many short ones.
TESTS := tests/pytorch tests/service tests/plain
ABREAST := -n 2 --dist loadfile --no-loadscope-reorder
ONE_THREAD := OMP_NUM_THREADS=1
# Tests of compilers and of compiled code: no other numpy makes a difference to them.
OF_NO_NUMPY := test_kernels_nvcc.py test_engine_kernels.py
OF_NO_NUMPY_EITHER := test_kernels.py::test_no_kernel_touches_a_byte_outside
MODEL ?= nano
WEIGHTS ?= ZhengPeng7/BiRefNet
OUT ?= out/$(notdir $(WEIGHTS))

.PHONY: help demo serve test test-all test-slow test-numpy1 check export engine parity bench bench-quality bench-check bench-report bench-codec bench-serve gpu nano wheel clean

help:           ## list the targets
	@grep -E '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */  /'

demo: .venv/demo/.ready  ## cut out the pictures in examples/ with the embedded model
	@$(DEMO) examples/demo.py out/demo

serve: .venv/demo/.serve  ## the service and its page on http://127.0.0.1:8000 (MODEL=, ARGS="--port 8001")
	@$(DEMO) -m birefnet_runtime serve --model $(MODEL) $(ARGS)

test: .venv/dev/.ready  ## the tests of minutes
	$(ONE_THREAD) $(DEV) -m pytest $(ABREAST) -m "not slow and not gpu" $(TESTS)

test-all: test test-numpy1 test-slow  ## all of them: also the proofs of gigabytes, and numpy 1

test-slow: .venv/dev/.ready  ## the proofs of minutes: two at a time take up to 14 GiB
	$(ONE_THREAD) $(DEV) -m pytest -n 2 --dist worksteal -m "slow and not gpu" $(TESTS)

test-numpy1: .venv/numpy1/.ready  ## the runtime's tests with numpy 1.26 and without torch
	$(ONE_THREAD) $(OLD) -m pytest $(ABREAST) tests/plain $(OF_NO_NUMPY:%=--ignore=tests/plain/%) $(OF_NO_NUMPY_EITHER:%=--deselect=tests/plain/%)

check: .venv/dev/.ready  ## formatting, lint, types, import contracts
	.venv/dev/bin/ruff format --check . && .venv/dev/bin/ruff check . && .venv/dev/bin/mypy && .venv/dev/bin/lint-imports

export: .venv/dev/.ready  ## WEIGHTS= OUT=: checkpoint to model folder
	$(DEV) -m birefnet_export $(WEIGHTS) $(OUT) $(ARGS)

engine: .venv/dev/.ready  ## MODEL=: TensorRT plans for this GPU (ARGS="--batch 1,4 --inspect")
	$(DEV) -m birefnet_engine $(MODEL) $(ARGS)

parity: .venv/dev/.ready  ## MODEL= WEIGHTS=: every executor here against PyTorch, as a report (ARGS="--stages")
	$(DEV) bench/parity.py $(if $(filter-out file,$(origin MODEL)),$(MODEL)) $(if $(filter-out file,$(origin WEIGHTS)),--weights $(WEIGHTS)) $(ARGS)

gpu: $(if $(filter $(DEV),$(GPU_PYTHON)),.venv/dev/.ready)  ## everything measured on an NVIDIA GPU (ARGS="device kernels"; bench/README.md)
	$(GPU_PYTHON) bench/gpu.py $(ARGS)

bench: .venv/dev/.ready  ## MODEL= WEIGHTS= REMBG=python: time, rate and memory against what else works here
	$(DEV) bench/bench.py $(MODEL) $(if $(filter-out file,$(origin WEIGHTS)),--weights $(WEIGHTS)) $(if $(REMBG),--rembg-python $(REMBG)) $(ARGS)

bench-quality: .venv/dev/.ready  ## MODEL=: what each edge mode gains and costs, 0.3 to 100 megapixels (ARGS="--lemur FOLDER")
	$(DEV) bench/quality.py $(MODEL) $(ARGS)

bench-check: .venv/dev/.ready  ## did it get slower than the last committed record of such a machine?
	$(DEV) bench/check.py $(MODEL) $(ARGS)

bench-report: .venv/dev/.ready  ## the READMEs' tables and figures from the records (ARGS=--newest)
	$(DEV) bench/report.py $(ARGS)

bench-codec: .venv/dev/.ready  ## every codec at 12 megapixels (ARGS="--rembg-python P --figure")
	$(DEV) bench/codec.py $(ARGS)

bench-serve: .venv/dev/.ready  ## load on the service (ARGS="--litserve-python P --rembg-python P --rounds 3")
	$(DEV) bench/serve.py $(ARGS)

nano: .venv/dev/.ready  ## train the embedded model again (ARGS="--minutes 30"); goes on where it stopped
	$(DEV) -m birefnet_export.nano out/nano $(ARGS)

nano-eval: .venv/dev/.ready  ## score the embedded model's weights on the held-out scenes
	$(DEV) -m birefnet_export.nano out/nano --evaluate

wheel: .venv/dev/.ready  ## dist/*.whl
	$(DEV) -m build --wheel

clean:          ## remove environments and everything made
	rm -rf .venv out dist build

.venv/demo/.ready: pyproject.toml
	@echo "setting up .venv/demo (numpy, Pillow, OpenCV, ONNX Runtime; no PyTorch) ..."
	@$(PYTHON) -m venv .venv/demo
	@$(DEMO) -m pip install -q --disable-pip-version-check -e '.[cpu]'
	@touch $@

.venv/demo/.serve: .venv/demo/.ready
	@$(DEMO) -m pip install -q --disable-pip-version-check -e '.[cpu,serve]'
	@touch $@

.venv/dev/.ready: pyproject.toml
	@echo "setting up .venv/dev (PyTorch included: minutes on a first run) ..."
	@$(PYTHON) -m venv $(VENV_FLAGS) .venv/dev
	@$(DEV) -m pip install -q --disable-pip-version-check -e '.[cpu,export,serve,dev]'
	@touch $@

.venv/numpy1/.ready: pyproject.toml
	@$(PYTHON) -m venv .venv/numpy1
	@$(OLD) -m pip install -q --disable-pip-version-check -e '.[cpu]' 'numpy<2' pytest pytest-xdist onnx hatchling
	@touch $@
