# Everything from a fresh clone: `make demo` and `make test` each set up what they need, once.
PYTHON   ?= python3
VENV     ?= .venv
PIP_ARGS ?=

bin   := $(VENV)/bin
ready := $(VENV)/.ready

.PHONY: demo test test-all light lint types check docs gallery wheel release clean

demo: $(ready)        ## the main job on bundled photographs, offline: ends with the path of a report
	$(bin)/palette-bench demo -o demo

test: $(ready)        ## the tests to run while working; minutes
	$(bin)/python -m pytest -n auto -q -m 'not slow and not long'

test-all: $(ready)    ## every test that needs no download, as in CI
	$(bin)/python -m pytest -n auto -q

light:                ## the base installation in an empty environment; OLDEST=1 takes the oldest packages it allows
	$(PYTHON) -m venv --clear $(VENV)-light
	$(PYTHON) tests/light_install.py --oldest > $(VENV)-light/oldest.txt
	$(VENV)-light/bin/python -m pip install -q $(PIP_ARGS) $(if $(OLDEST),-c $(VENV)-light/oldest.txt) .
	$(VENV)-light/bin/python tests/light_install.py

lint: $(ready)
	$(bin)/ruff format --check .
	$(bin)/ruff check .

types: $(ready)
	$(bin)/mypy

check: lint types test-all

docs: $(ready)        ## the site, offline: ends with its path; shows the gallery if that was made
	PYTHONPATH=docs $(bin)/python -m website build/docs

gallery: $(ready)     ## the pages that the gallery shows; minutes
	PYTHONPATH=docs $(bin)/python -m website.gallery build/docs/gallery

wheel: $(ready)
	$(bin)/pip wheel --no-deps -q -w dist .

release: $(ready)     ## source archive and wheel in dist/, each proven in empty environments, light and full
	rm -rf dist
	$(bin)/python -m pip install -q build twine
	$(bin)/python -m build -o dist . >build.log 2>&1 || { cat build.log; exit 1; }
	rm build.log
	$(bin)/python -m twine check --strict dist/*
	for file in dist/*.tar.gz dist/*.whl; do \
	  for extra in "" "[all]"; do \
	    echo "$$file$$extra"; \
	    $(PYTHON) -m venv --clear $(VENV)-release && \
	    $(VENV)-release/bin/python -m pip install -q $(PIP_ARGS) "$$file$$extra" && \
	    $(VENV)-release/bin/python tests/light_install.py $${extra:+--full} || exit 1; \
	  done; \
	done

clean:
	rm -rf $(VENV) $(VENV)-light $(VENV)-release build dist demo

$(ready): pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "palette-bench needs Python 3.11 or later; name one:  make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(bin)/python -m pip install -q --upgrade pip
	$(bin)/python -m pip install -q $(PIP_ARGS) -e '.[all,test,lint,docs]'
	@touch $@
