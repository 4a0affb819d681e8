# The commands of daily work. `make help` lists them.
#
# PYTHON    the interpreter that the environments are made from (3.11 or newer; the vehicle's: 3.10 or newer)
# PIP_ARGS  passed to pip; for a CPU-only torch (some GB less on Linux):
#           make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# PROCESSES that share the tests of `make test`; more on a machine with more than two cores
# DATA      labelled pictures by day and by night for `make demo`, in place of simulated drives
# WEIGHTS   the checkpoint that their baseline is made from
# LABEL_STUDIO_FOLDER, LABEL_STUDIO_PORT  where `make label-studio` keeps everything, and where it listens
# CLOUD     a cloud's folder, made by `traffic-vision cloud init`, for `make airflow` and `make mlflow`

PYTHON ?= python3
PROCESSES ?= 2
PIP_ARGS ?=
VENV := .venv
VENV_EDGE := .venv-edge
VENV_PROTOS := .venv-protos
VENV_LABEL_STUDIO := .venv-label-studio
LABEL_STUDIO_FOLDER ?= label-studio-data
LABEL_STUDIO_PORT ?= 8080
VENV_AIRFLOW := .venv-airflow
# The oldest generator that protobuf's and grpcio's bounds in pyproject.toml allow.
PROTO_TOOLS := grpcio-tools==1.76.0 mypy-protobuf==5.1.0
BIN := $(VENV)/bin
REPORT ?= demo-report
EVERYTHING := '.[cloud,dev]'
VEHICLE := '.[edge]'
SOURCES := $(shell find protos edge cloud tools -name '*.py')
BENCH ?= detector
CLOUD ?= fleet

# $(1): the environment's folder, $(2): the oldest minor version of Python 3, $(3): what pip installs
define environment
	@$(PYTHON) -c '' >/dev/null 2>&1 || { \
	  echo "error: this needs Python 3.$(2) or newer, and $(PYTHON) does not run; name another one: PYTHON=python3.$(2)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, $(2)))' || { \
	  echo "error: this needs Python 3.$(2) or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1); name another one: PYTHON=python3.$(2)" >&2; exit 1; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || { \
	  echo "error: no virtual environment could be made; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; rm -rf $(1); exit 1; }
	$(1)/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) $(3)
	@touch $@
endef

define opencv_loads
	@$(1)/bin/python -c 'import cv2' || { \
	  echo "error: OpenCV's wheel needs system libraries that are missing here; on Debian and Ubuntu: sudo apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
endef

# A recipe that fails leaves no stamp behind.
.DELETE_ON_ERROR:
.PHONY: help setup setup-edge setup-label-studio label-studio setup-airflow airflow mlflow protos demo test missing-packages system-packages test-services bench lint format clean clean-all

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## everything, into .venv
$(VENV)/.ready: pyproject.toml constraints.txt
	$(call environment,$(VENV),11,-c constraints.txt -e $(EVERYTHING))
	$(call opencv_loads,$(VENV))

setup-edge: $(VENV_EDGE)/.ready ## the vehicle's part alone, into .venv-edge
$(VENV_EDGE)/.ready: pyproject.toml constraints.txt $(SOURCES)
	$(call environment,$(VENV_EDGE),10,-c constraints.txt $(VEHICLE))
	$(call opencv_loads,$(VENV_EDGE))

setup-label-studio: $(VENV_LABEL_STUDIO)/.ready ## Label Studio, into .venv-label-studio
$(VENV_LABEL_STUDIO)/.ready: tools/label_studio/constraints.txt
	$(call environment,$(VENV_LABEL_STUDIO),11,-c tools/label_studio/constraints.txt label-studio)

label-studio: setup-label-studio ## people label samples: Label Studio on this machine
	@$(VENV_LABEL_STUDIO)/bin/python -m tools.label_studio --folder '$(LABEL_STUDIO_FOLDER)' --port $(LABEL_STUDIO_PORT)

setup-airflow: $(VENV_AIRFLOW)/.ready ## Apache Airflow, into .venv-airflow
$(VENV_AIRFLOW)/.ready: cloud/airflow/requirements.txt cloud/airflow/constraints.txt
	$(call environment,$(VENV_AIRFLOW),11,-c cloud/airflow/constraints.txt -r cloud/airflow/requirements.txt)

airflow: setup setup-airflow ## Apache Airflow for the cloud in CLOUD, until Ctrl-C
	@$(BIN)/traffic-vision cloud airflow --airflow $(VENV_AIRFLOW)/bin/airflow --config '$(CLOUD)/cloud.toml'

mlflow: setup ## MLflow's pages of the cloud in CLOUD, until Ctrl-C
	@$(BIN)/traffic-vision cloud mlflow --config '$(CLOUD)/cloud.toml'

$(VENV_PROTOS)/.ready: Makefile
	$(call environment,$(VENV_PROTOS),10,$(PROTO_TOOLS))

protos: $(VENV_PROTOS)/.ready ## the stubs of protos/, made anew
	$(VENV_PROTOS)/bin/python tools/generate_stubs.py

demo: setup ## the whole loop, live: a drive into the night, a retrain, the swap; report in REPORT
	@$(BIN)/traffic-vision demo --report $(REPORT) $(if $(DATA),--data '$(DATA)') $(if $(WEIGHTS),--weights '$(WEIGHTS)')

test: setup ## what needs no service and no network
	$(BIN)/python -m pytest -m "not services" -n $(PROCESSES) --dist loadfile

# Debian's names, one a line; none: nothing is missing.
missing-packages: ## what test-services needs of the system and is not here, by Debian's names
	@grep -v '^#' tests/system-needs.txt | while read -r package there; do \
	  PATH="$$PATH:/sbin:/usr/sbin" sh -c "$$there" </dev/null >/dev/null 2>&1 || echo "$$package"; done

system-packages: ## the same, as an error
	@missing=$$($(MAKE) --silent --no-print-directory missing-packages | tr '\n' ' '); test -z "$$missing" || { \
	  echo "error: these tests start real servers, and miss what Debian and Ubuntu have as: sudo apt-get install $$missing" >&2; exit 1; }

test-services: system-packages setup setup-edge setup-label-studio setup-airflow ## what starts servers, a browser, or installs packages
	$(BIN)/python -m pytest -m services

bench: setup ## the figures of BENCH (default: detector), beside their targets
	$(BIN)/traffic-vision bench $(BENCH)

lint: setup $(VENV_PROTOS)/.ready ## style, types, the import ladder, fresh stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(VENV_PROTOS)/bin/python tools/generate_stubs.py --check

format: setup ## put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## caches and built files; environments stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist runs $(REPORT) demo-work
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

clean-all: clean ## the environments too
	rm -rf .venv .venv-*
