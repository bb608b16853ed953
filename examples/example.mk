# `make -C examples/NAME run`: what `ashore example run NAME` does, from a checkout.
ROOT := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/..)
NAME := $(notdir $(CURDIR))

.PHONY: run small
run: ## Run the example
	@$(MAKE) --no-print-directory -C $(ROOT) setup
	@$(ROOT)/.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(ROOT)/.venv/bin/ashore example run $(NAME) $(ARGS)

small: ## Run it on a small part of the data
	@$(MAKE) --no-print-directory run ARGS=--small
