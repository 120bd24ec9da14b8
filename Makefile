# Short names for the commands that the documents give in full. Each sets up what it needs.

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
PACKAGES := .ci/packages
# What takes longer than a minute by itself, or needs machines of its own: packages, fuzzing,
# credentials between daemons, commands that are killed at every moment, and NATs.
# The longest first, so that at the end nobody waits for a single file.
LONG := tests/packaging $(patsubst %,tests/system/test_%.py,mesh_of_eight nat_cells nat_moving) \
	tests/fuzz $(patsubst %,tests/system/test_%.py,quick_failures nat_bad_relay mesh_routes \
	mesh_agent portmap mesh_join netcheck nat_hostile nat_places enrolment ways mesh_people)
MORE := $(LONG) $(filter-out $(LONG), \
	$(wildcard tests/system/test_credential_*.py tests/system/test_nat*.py) \
	$(wildcard tests/system/test_mesh_*.py) \
	$(patsubst %,tests/system/test_%.py,coturn stun turn store meeting punch deploy))
# What meets nothing of the machine: several at once, one for each processor.
PURE := tests/unit tests/model bench/tests
# What starts a daemon and needs no second run on the other data path. Of test_native.py and of the
# tests of NATs each names its data path where that matters (one of each kind runs on both), the test
# beds have none, and to those who make and judge credentials, keep the firewall, kill `wgpy up`, or
# speak as agents and coordinators do, it is all the same.
NAMED := tests/system/test_native.py tests/system/test_netns.py tests/system/test_coturn.py \
	tests/system/test_netcheck.py tests/system/test_portmap.py tests/system/test_stun.py \
	tests/system/test_turn.py $(wildcard tests/system/test_nat*.py) \
	tests/system/test_credential_tools.py tests/system/test_credential_refusals.py \
	tests/system/test_credential_firewall.py tests/system/test_deploy.py tests/system/test_store.py \
	tests/system/test_quick_failures.py $(wildcard tests/system/test_mesh_*.py)

.PHONY: demo test more portable check native fuzz interop bench man clean

# Two machines on this one: a tunnel between them, a ping, a measurement. Needs root.
demo: $(READY)
	$(VENV)/bin/wgpy demo

# Style, types and tests, with the peers that Debian packages, on the data path that `auto` takes.
# Needs root. The next two go on with it, and continuous integration runs all three.
test: check
	$(PACKAGES) test
	if command -v cargo >/dev/null; then $(MAKE) native; fi
	$(PYTHON) -m pytest -n auto $(PURE)
	$(PYTHON) -m pytest -n 2 --dist loadfile $(MORE:%=--ignore %) tests/system
	$(PYTHON) -m pytest interop  # one at a time: wg(8) removes a socket that does not listen yet

# What takes longer: packages as they are installed, fuzzing, credentials between real daemons.
more: $(READY)
	$(PACKAGES) test
	$(PYTHON) -m pytest -n 5 --dist loadfile --no-loadscope-reorder --durations 30 $(MORE)

# What starts a daemon, again on the portable data path.
portable: $(READY)
	$(PACKAGES) test
	WGPY_DATAPATH=portable $(PYTHON) -m pytest -n 4 --dist loadfile tests/system $(NAMED:%=--ignore %)
	WGPY_DATAPATH=portable $(PYTHON) -m pytest interop/test_wireguard_go.py

# Style, types, manual pages and the rules of the house.
check: $(READY)
	$(PACKAGES) check
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTHON) -m pytest -q tests/unit/test_imports.py tests/unit/test_house.py tests/unit/test_man.py

# The Rust crates: their tests, and no warning. Fuzzing takes FUZZ_SECONDS a target.
FUZZ_SECONDS := 20
native:
	cd native && cargo fmt --all --check
	cd native && cargo clippy --all-targets --locked -- -D warnings
	cd native && cargo test --locked

fuzz:
	$(PACKAGES) fuzz
	native/fuzz/run $(FUZZ_SECONDS)

# The peers built from their own registries as well, and the tests that wait for real timers.
interop: $(READY)
	$(PACKAGES) test
	interop/peers.sh
	WGPY_INTEROP=1 $(PYTHON) -m pytest interop
	WGPY_INTEROP=1 $(PYTHON) -m pytest -n 4 --dist loadfile -m slow tests/system

# Ours and theirs, alternating in one run. `make bench ARGS="--only tcp"` chooses.
bench: $(READY)
	$(PACKAGES) test
	$(PYTHON) -m bench $(ARGS)

# The manual pages as text.
man:
	$(PACKAGES) check
	for page in man/*.[1-8]; do mandoc -Tutf8 "$$page" | col -b > "$$page.txt"; done

$(READY): pyproject.toml setup.py
	$(PACKAGES) python
	$(PACKAGES) native
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet --editable '.[dev]'
	$(PYTHON) -m pip install --quiet --only-binary :all: --editable '.[fuzz]' || \
		echo 'no fuzzing: atheris has no release for this Python'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
