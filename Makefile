# Each target sets up all that it needs. `make demo` and `make test` are what a newcomer types.

PYTHON ?= python3
VENV := .venv
DEMO ?= demo
DEMO_OPTIONS ?=

.PHONY: demo test slow slurm torture clean

# Installed anew whenever what is to be installed changes.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# Trains L2RM at three noise ratios and writes its leaderboard into $(DEMO)/leaderboards.
demo: $(VENV)/installed
	$(VENV)/bin/ncbench run --method l2rm --noise 0.2,0.4,0.6 --out $(DEMO)/runs $(DEMO_OPTIONS)
	$(VENV)/bin/ncbench report --runs $(DEMO)/runs --out $(DEMO)/leaderboards

$(VENV)/tox: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt tox
	touch $@

# Style, types and tests, in environments of their own.
test: $(VENV)/tox
	$(VENV)/bin/tox run

# Tests that take longer than those of `make test`.
slow: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -m slow

# Sweeps on a Slurm of one node, which is started and ended (Debian: apt-get install slurm-wlm munge; as root).
slurm: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -n 0 -m slurm

# Kills sweeps at random moments, for minutes, and looks whether they end in the same records.
torture: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -n 0 -m torture

clean:
	rm -rf $(VENV) .tox build *.egg-info
