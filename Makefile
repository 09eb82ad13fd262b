# Every target makes the environment it needs under .venv/ and is one command from there.
PYTHON ?= python3
# `make test VENV_FLAGS=--system-site-packages` builds on packages that PYTHON already has, such as torch.
VENV_FLAGS ?=
DEMO := .venv/demo/bin/python
DEV := .venv/dev/bin/python
OLD := .venv/numpy1/bin/python
# `make gpu GPU_PYTHON=...`: another Python that has TensorRT and PyCUDA.
GPU_PYTHON ?= $(DEV)
MODEL ?= nano
WEIGHTS ?= ZhengPeng7/BiRefNet
OUT ?= out/$(notdir $(WEIGHTS))

.PHONY: help demo test test-all test-numpy1 check export engine parity bench gpu nano wheel clean

help:           ## list the targets
	@grep -E '^[a-z0-9-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */  /'

demo: .venv/demo/.ready  ## cut out the pictures in examples/ with the embedded model
	@$(DEMO) examples/demo.py out/demo

test: .venv/dev/.ready  ## the tests of minutes
	$(DEV) -m pytest -m "not slow and not gpu"

test-all: test test-numpy1  ## all of them: also the proofs of gigabytes, and numpy 1
	$(DEV) -m pytest -m "slow and not gpu"

test-numpy1: .venv/numpy1/.ready  ## the runtime's tests with numpy 1.26 and without torch
	$(OLD) -m pytest tests/plain

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

bench: .venv/dev/.ready  ## MODEL=: stage times of a cut-out at 1, 12 and 24 megapixels
	$(DEV) bench/latency.py $(MODEL)

nano: .venv/dev/.ready  ## train the embedded model again (ARGS="--minutes 60"); goes on where it stopped
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

.venv/dev/.ready: pyproject.toml
	@echo "setting up .venv/dev (PyTorch included: minutes on a first run) ..."
	@$(PYTHON) -m venv $(VENV_FLAGS) .venv/dev
	@$(DEV) -m pip install -q --disable-pip-version-check -e '.[cpu,export,dev]'
	@touch $@

.venv/numpy1/.ready: pyproject.toml
	@$(PYTHON) -m venv .venv/numpy1
	@$(OLD) -m pip install -q --disable-pip-version-check -e '.[cpu]' 'numpy<2' pytest onnx hatchling
	@touch $@
