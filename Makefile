# make demo       set up .venv, then let the compressed policy drive the simulated arm over ROS 2
# make test       set up .venv, then run all tests; `make test NUMPY=1.26` does it with NumPy 1.26
# make test-fast  the tests that neither start nodes nor render nor take long, in about a minute
# make lint       ruff, clang-format and mypy
# make sanitize   the tests of the C++ kernels under ASan and UBSan, about a minute
# make docs       write doc/api.md from the docstrings
# make faults     repeat every fault of doc/faults.md FAULT_REPEATS times (5)
# make soak       let the demonstration run for half an hour with random faults
# make fuzz       try 10 000 hostile instructions
# make setup      only .venv (the packages of requirements/, the interfaces, .venv/bin/sqap_vla)
# make clean      remove the environments and everything built
#
# Variables: PYTHON (interpreter of the environment), NUMPY, DEMO_ARGS, SOAK_ARGS, PYTEST_ARGS.

PYTHON ?= python3
VENV := .venv$(if $(NUMPY),-numpy-$(NUMPY))

# A sourced ROS 2 install would mix its packages and libraries with those of the environment.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH
ifdef ROS_DISTRO
unexport LD_LIBRARY_PATH
endif

.PHONY: demo test test-fast lint sanitize docs faults soak fuzz setup clean

demo: setup
	$(VENV)/bin/sqap_vla demo $(DEMO_ARGS)

# Tests of running nodes have deadlines, so no more than two files of them run at a time, after all
# others. pytest's status 5 says that PYTEST_ARGS left no test of the kind.
PYTEST := ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST $(VENV)/bin/python -m pytest
test: setup
	@status=0; \
	$(PYTEST) -n auto --maxprocesses 4 --dist loadfile -m 'not ros' $(PYTEST_ARGS) || \
	[ $$? -eq 5 ] || status=1; \
	$(PYTEST) -n auto --maxprocesses 2 --dist loadfile -m ros $(PYTEST_ARGS) || [ $$? -eq 5 ] || status=1; \
	exit $$status

test-fast: setup
	$(VENV)/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile \
	-m 'not ros and not simulation and not slow' $(PYTEST_ARGS)

lint: setup
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(if $(wildcard .clang-format),$(VENV)/bin/clang-format --dry-run -Werror csrc/*.cpp csrc/*.h)
	$(VENV)/bin/mypy

# FAULT_SLACK is a factor on every time limit, FAULT_ROBOT simulated or stand-in.
faults: setup
	ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST FAULT_REPEATS=$(or $(FAULT_REPEATS),5) \
	FAULT_SLACK=$(or $(FAULT_SLACK),1) FAULT_ROBOT=$(or $(FAULT_ROBOT),simulated) \
	$(VENV)/bin/python -m pytest -q test/faults $(PYTEST_ARGS)

soak: setup
	$(VENV)/bin/sqap_vla soak $(SOAK_ARGS)

fuzz: setup
	INSTRUCTION_CASES=10000 $(VENV)/bin/python -m pytest -q test/ros/policy_node/test_instruction_fuzz.py

sanitize: setup
	@$(PYTHON) wheels_build/sanitize.py --venv $(VENV)

docs: setup
	cd test && ../$(VENV)/bin/python -m support.api_reference ../doc/api.md

setup:
	@$(PYTHON) wheels_build/setup_venv.py --venv $(VENV) --numpy '$(NUMPY)'

clean:
	rm -rf .venv .venv-numpy-* build install log out *.egg-info
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
