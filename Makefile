# The one door: everything a developer or a user of the checkout does goes through here.
.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint format docs clean

BIN := .venv/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install everything: Debian packages (as root) and .venv/bin/vmport
	@.ci/setup

demo: setup ## Move a real guest: disk, descriptor and container, as a story
	@$(BIN)/python demo/story.py

test: setup ## Run all tests, or those that ARGS names
	@$(BIN)/python -m tests.samples
	$(BIN)/pytest -n auto $(ARGS)

fuzz: setup ## Damage images of every format 20,000 times each; writes docs/fuzzing.md
	$(BIN)/python -m tests.fuzz --cases 20000 --write docs/fuzzing.md

soak: setup ## As fuzz, N times, with damage never seen before: make soak N=1000000
	$(BIN)/python -m tests.fuzz --cases $(or $(N),100000) --seed $$(date +%s)

bench: setup ## Measure everything beside its peers, on a quiet machine; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks --write docs/benchmarks.md $(ARGS)

faults: setup ## Convert while calls fail, signals come and sources change; prints a table
	$(BIN)/python -m tests.faults $(ARGS)

readers: setup ## Let other programs read our VMDKs, up to virt-v2v; prints a table
	$(BIN)/python -m tests.readers $(ARGS)

lint: setup ## Check style, types and the storeys
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup ## Rewrite the code in the agreed style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## Write the pages of docs/reference that follow from the code
	$(BIN)/python -m docs.generator

clean: ## Remove everything that was made
	rm -rf .venv .cache build dist demo-out
	find . -name '__pycache__' -prune -exec rm -rf {} +
