# One tool sets everything up: GNU make with Python 3.11 or newer, on Linux and macOS.
#   make convert   set up, then convert two clips that ship with the project
#   make demo      set up, then open the page in the browser
#   make test      set up, then lint, type-check and test

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
SOURCE ?= vc/examples/source.flac
REFERENCE ?= vc/examples/reference.flac
OUTPUT ?= converted.wav
BIN := $(VENV)/bin

.PHONY: help setup convert demo test clean
help:
	@sed -n 's/^#   /  /p' Makefile

$(VENV)/bin/python:
	@echo "==> making a Python environment in $(VENV)"
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| (echo "Python 3.11 or newer is needed; install it or say: make PYTHON=/path/to/python3.11" && false)
	@"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.vc: pyproject.toml | $(VENV)/bin/python
	@echo "==> installing vc and PyTorch (a minute or two; about 3 GB of disk on Linux)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.vc-demo: $(VENV)/.vc
	@echo "==> installing the demo's packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.vc-dev: $(VENV)/.vc-demo
	@echo "==> installing test tools and judges"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,eval,train,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps resemblyzer==0.1.4
	@touch $@

setup: $(VENV)/.vc

convert: setup
	@echo "==> converting $(SOURCE) into the voice of $(REFERENCE)"
	@$(BIN)/vc convert "$(SOURCE)" "$(REFERENCE)" -o "$(OUTPUT)"

demo: $(VENV)/.vc-demo
	@echo "==> opening the demo in the browser (Ctrl-C ends it)"
	@$(BIN)/vc demo

test: $(VENV)/.vc-dev
	@echo "==> lint"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "==> types"
	@$(BIN)/mypy
	@echo "==> tests"
	@$(BIN)/pytest

clean:
	rm -rf "$(VENV)"
