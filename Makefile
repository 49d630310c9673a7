# make demo | test | check | released   (each first installs into .venv what it needs)
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

DATA := ../shared/data

.PHONY: demo test check typing released clean

.venv/.base: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Facecade needs Python 3.11 to 3.13: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[weights,report]'
	touch $@

.venv/.dev: .venv/.base
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[weights,dev]'
	touch $@

demo: .venv/.base
	rm -rf $(DEMO)
	$(BIN)/python cli.py draw $(DEMO)/data
	$(BIN)/python cli.py check $(DEMO)/data/train
	$(BIN)/python cli.py fit-stage all --data $(DEMO)/data/train --recipe recipes/demo.toml --artifacts $(DEMO)/artifacts
	$(BIN)/python cli.py fit-meta --artifacts $(DEMO)/artifacts
	$(BIN)/python cli.py infer $(DEMO)/data/eval --artifacts $(DEMO)/artifacts --output $(DEMO)/output
	$(BIN)/python cli.py evaluate $(DEMO)/output/submission.csv $(DEMO)/data/eval/eval_labels.csv --output $(DEMO)/output
	$(BIN)/python cli.py predict docs/portrait.jpg --artifacts facecade/released
	$(BIN)/python cli.py report --artifacts $(DEMO)/artifacts --output $(DEMO)/output
	@echo
	@echo "Open $(DEMO)/output/report.html in a browser. A web page that predicts images:"
	@echo "  $(BIN)/pip install -e '.[web]' && $(BIN)/python cli.py serve --artifacts $(DEMO)/artifacts"

test: .venv/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/.dev typing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typing: .venv/.dev build/typing/facecade
	$(BIN)/mypy

# The package in one folder, as in a wheel: mypy does not support a package in two places.
build/typing/facecade: $(wildcard facecade/*)
	rm -rf $@ && mkdir -p $@
	ln -s $(addprefix $(CURDIR)/,$(wildcard facecade/*) stages pipeline.py cli.py) $@

# The cascade in facecade/released/: hours on two cores.
released: .venv/.dev
	$(BIN)/python benchmarks/released.py make $(DATA)/faces/train $(DATA)/extra
	$(BIN)/python benchmarks/released.py report $(DATA)/faces/eval $(DATA)/extra
	$(BIN)/python benchmarks/released.py few-shot $(DATA)/faces/eval

clean:
	rm -rf $(DEMO) output .venv
