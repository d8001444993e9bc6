# Each target installs what it needs. Newcomers need only `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
DEMO ?= demo
DEMO_OPTIONS ?=

.PHONY: demo test slow behaviour slurm torture clean

# Reinstalls when the requirements change.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# Trains L2RM, and plain triplet training for contrast, at three noise ratios, and writes a leaderboard to
# $(DEMO)/leaderboards. Its figure scenes/figures/rsum.svg shows the difference.
demo: $(VENV)/installed
	$(VENV)/bin/ncbench run --method l2rm,triplet --noise 0.2,0.4,0.6 --out $(DEMO)/runs $(DEMO_OPTIONS)
	$(VENV)/bin/ncbench report --runs $(DEMO)/runs --out $(DEMO)/leaderboards

$(VENV)/tox: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt tox
	touch $@

# Style, types and tests, in separate environments.
test: $(VENV)/tox
	$(VENV)/bin/tox run

# Tests that take too long for `make test`.
slow: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -m "slow and not behaviour"

# Whether methods behave on scenes as in papers (ten minutes of training).
behaviour: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -m behaviour

# Starts a one-node Slurm and runs sweeps on it (as root; Debian: apt-get install slurm-wlm munge).
slurm: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -n 0 -m slurm

# Kills sweeps at random moments for several minutes, and checks that they end in the same records.
torture: $(VENV)/tox
	$(VENV)/bin/tox run -e tests -- -n 0 -m torture

clean:
	rm -rf $(VENV) .tox build *.egg-info
