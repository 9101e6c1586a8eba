# Two commands matter: `make train` and `make test`. Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart
ARGS ?=

.PHONY: help setup train test quick faults lint docs clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: .venv/ready ## Make .venv with the pinned dependencies

.venv/ready: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name a newer one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "installing the pinned dependencies into .venv (a minute or two)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# A dataset folder appears whole or not at all, so its manifest tells that it is there.
$(RUN)/data/manifest.json: | .venv/ready
	$(BIN)/python -m data_tools.prepare --source=complete_journey --weeks=12 --min_item_count=10 \
		--held_out_rare_items=drop --out=$(RUN)/data

train: .venv/ready $(RUN)/data/manifest.json ## Train on real purchases and print what each component brings (about five minutes)
	$(BIN)/python -m experiments.train --config=experiments/configs/best.py --config.epochs=8 --config.networks.id.dropout=0.1 \
		--config.networks.text.learning_rate=6e-4 --data_dir=$(RUN)/data --workdir=$(RUN)
	$(BIN)/python -m experiments.evaluate --workdir=$(RUN) --split=test --output=$(RUN)/metrics.json
	$(BIN)/python -m experiments.show --workdir=$(RUN)

test: .venv/ready ## Run the tests (about 24 minutes on two cores)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

quick: .venv/ready ## Run the tests whose file takes less than ten seconds (two minutes)
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not long" $(ARGS)

faults: .venv/ready ## Kill, damage and starve the real commands, at random (ARGS="--kills=20" for less)
	$(BIN)/python -m pytest faults $(ARGS)

lint: .venv/ready ## Run the linter, the type checker and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python .ci/rules.py

docs: .venv/ready ## Build the site of the docs in runs/site; a broken link stops it
	$(BIN)/python -m sphinx -q -E -a -W --keep-going -c docs . runs/site

clean: ## Remove .venv and runs/
	rm -rf .venv runs
