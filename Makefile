# Every job of the repository, one line each; CI calls these and nothing else.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Node that takes an ES module without a package.json to say so.
NODE := node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a == 22 && b >= 7) || (a == 20 && b >= 19) ? 0 : 1)'

.PHONY: .venv run once serve test lint types format lock samples clean

run: .venv ## the whole path on an embedded AWS; stays until Ctrl-C
	$(BIN)/python -m local

once: .venv ## the same, ends after the samples
	$(BIN)/python -m local --once

serve: .venv ## the function alone: page and POST /predict on $PORT (8080)
	EVENTS_AUTH=$${EVENTS_AUTH-none} $(BIN)/gunicorn -c function/gunicorn.conf.py

test: .venv
	$(BIN)/pytest
	@if $(NODE) 2>/dev/null; then node --test tests/*.test.js; else echo "skipped tests/*.test.js: no node 20.19, 22.7 or newer"; fi

lint: .venv
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv
	$(BIN)/mypy

format: .venv
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: .venv ## after a change of pyproject.toml; the image takes the versions that the tests ran with
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pyproject.toml --group dev -o requirements-dev.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pyproject.toml -c requirements-dev.txt -o requirements.txt

samples: .venv
	$(BIN)/python -m model.render --samples local/samples

.venv: .venv/installed
.venv/installed: requirements-dev.txt # a file, so that a broken install is not taken for a whole one
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch .venv/installed

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build
