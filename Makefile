# Every job of the repository, one line each; CI calls these and nothing else.
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv-tools/bin
IMAGE ?= shelfwatch:latest
export IMAGE
UV := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url

# Node that takes an ES module without a package.json to say so.
NODE := node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a == 22 && b >= 7) || (a == 20 && b >= 19) ? 0 : 1)'

# ONNX Runtime reports home otherwise.
export ORT_DISABLE_TELEMETRY := 1

# Dozens of processes start in `make test`; each would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help .venv run once subscriber serve quick quick-tests test slow newcomer screens manifests faults limits rollout-runs fuzz alerts rules bench lint types schemas docs image compose scan sbom package notes promoted publish e2e audit workflows format lock terraform samples judge model evaluate preview clean

help: ## lists the jobs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: .venv/running ## the whole path on an embedded AWS; stays until Ctrl-C; PORT=8081, OPEN=1 for a browser, JSON=1 for whole events
	@$(BIN)/python -m local $(if $(filter 1,$(JSON)),--json)

once: .venv/running ## the same, ends after the samples and prints their events whole
	@$(BIN)/python -m local --once

subscriber: .venv/running ## prints the events of `make run` as a program of your own would get them
	@mkdir -p build
	@$(BIN)/python -m local.subscriber --seen build/seen.sqlite

serve: .venv/running ## the function alone: page and POST /predict on $PORT (8080)
	EVENTS_AUTH=$${EVENTS_AUTH-none} $(BIN)/gunicorn -c function/gunicorn.conf.py

quick: lint quick-tests ## ruff, and the tests that answer within seconds

# Pure functions, the rules of imports and settings, and documents against code.
QUICK := codec config docs imports rows s3_notification shelf
quick-tests: .venv ## the second half of it, which pre-commit runs
	$(BIN)/pytest -n0 -q $(QUICK:%=tests/test_%.py)

# Most tests wait for processes of theirs: four at a time keep two processors at work.
test: .venv ## every test but the slow ones; no AWS account, no cluster, no Docker
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder -m "not slow"
	@if $(NODE) 2>/dev/null; then node --test tests/*.test.js; else echo "skipped tests/*.test.js: no node 20.19, 22.7 or newer"; fi

slow: .venv ## the slow tests: whole paths under faults, on both emulators and both databases; TESTS= chooses files
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder -m slow $(TESTS)

newcomer: ## the README's first commands in a copy of the tree: seconds and megabytes of each
	tests/newcomer.sh

screens: .venv ## the page's pictures in docs/, of drawn shelves, as its tests take them
	$(BIN)/pytest -n0 -q tests/test_page.py -k "stay_where_the_person or stays_in_sight"
	cp build/screens/desk.png docs/page.png && cp build/screens/phone.png docs/page-phone.png

# kubernetes-validate knows core kinds alone, and checkov looks into no Knative Service: it gets the pods as Deployments.
manifests: .venv .venv-tools/installed ## renders knative/ and argocd/; holds them to schemas, Knative's rules, checkov
	$(BIN)/pytest -q tests/test_manifests.py tests/test_argocd.py
	$(BIN)/python -m tests.manifests.render build/manifests
	$(TOOLS)/kubernetes-validate --quiet --no-warn -k 1.34 --strict \
		build/manifests/*.yaml build/manifests/pods/knative-overlays-prod.yaml
	$(TOOLS)/checkov --config-file tests/manifests/checkov.yaml --file \
		build/manifests/knative-overlays-prod.yaml build/manifests/pods/knative-overlays-prod.yaml

faults: .venv ## kills, stops and starves the path for a quarter of an hour; prints what became of each upload
	$(BIN)/python -m tests.faults --report build/faults.md
	$(BIN)/python -m tests.faults.monitor

rollout-runs: .venv ## thousands of random rollouts, the table of faults, mutants; real functions behind a splitter
	$(BIN)/python -m tests.rollout --runs $(or $(RUNS),2000)
	$(BIN)/pytest -n0 -q tests/rollout/end_to_end.py

limits: .venv ## sends what would end a pod, alone and eight at a time; prints what it took
	$(BIN)/python -m tests.limits --report build/limits.md

fuzz: .venv ## 1 000 random requests to each route, by the OpenAPI document; 10 000 damaged pictures
	FUZZ_PICTURES=$(or $(PICTURES),10000) $(BIN)/pytest -n0 --timeout 7200 tests/test_edge_cases.py -k damaged_pictures
	FUZZ_EXAMPLES=1000 $(BIN)/pytest -s --timeout 3600 tests/test_openapi.py -k undocumented

alerts: .venv ## a real Prometheus and Alertmanager over the real path: alerts arrive, the dashboard shows
	$(BIN)/pytest -n0 -s tests/observability/chain.py

rules: ## the rules of observability/rules as the object that the cluster's operator reads
	@{ echo '# Written by `make rules` from rules/*.yaml.'; \
	  printf '%s\n' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata:' '  name: shelfwatch' 'spec:' '  groups:'; \
	  sed -s '1,/^groups:/d; s/^./  &/' observability/rules/*.yaml; } >observability/prometheusrule.yaml
# The short form, a few minutes. The full one, 25 minutes on a quiet machine, with the float parents that the peers run:
# make bench FULL=--full FP32=shelf-float.onnx LARGE_INT8=yolo11l-int8.onnx LARGE_FP32=yolo11l-float.onnx [ONLY=start]
BENCH_VENV ?= .venv-bench
ifdef AGAINST
bench: .venv ## against peers, or AGAINST=commit in pairs: latency, start, memory, load; results in build/bench
	$(BIN)/python -m bench.against $(AGAINST) --pairs $(or $(PAIRS),400)
else
bench: $(BENCH_VENV)/bin/uvicorn
	$(BENCH_VENV)/bin/python -m bench $(FULL) $(if $(FP32),--fp32 $(FP32)) $(if $(ONLY),--only $(ONLY)) \
		$(if $(LARGE_INT8),--large-int8 $(LARGE_INT8)) $(if $(LARGE_FP32),--large-fp32 $(LARGE_FP32))
endif

$(BENCH_VENV)/bin/uvicorn:
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --disable-pip-version-check --require-hashes -r requirements.txt
	$(BENCH_VENV)/bin/pip install --disable-pip-version-check -r bench/requirements.txt

schemas: .venv ## writes the schemas of the events from the types of the result
	$(BIN)/python -m function.schemas

lint: .venv ## ruff: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv ## mypy, strict; pyproject.toml says why in two runs
	$(BIN)/mypy
	@$(BIN)/mypy $(patsubst tests/%.py,-m %,$(wildcard tests/*.py))

docs: .venv ## that the documents and the code say the same
	$(BIN)/pytest -n0 -q tests/test_docs.py

image: ## builds the container image and runs it as a pod would; wants Docker
	tests/image/check.sh

compose: ## starts compose.yaml with the images of `make image`, and sends a photo through it; wants its ports free
	tests/image/compose.sh

scan: ## refuses an image with known vulnerabilities of some weight; wants Trivy
	trivy image --exit-code 1 --severity HIGH,CRITICAL --ignore-unfixed --scanners vuln,secret $(IMAGE)

sbom: ## writes what the image holds to build/sbom.cdx.json; wants Trivy
	mkdir -p build && trivy image --format cyclonedx --output build/sbom.cdx.json $(IMAGE)

package: ## writes the image to build/image.tar.gz
	mkdir -p build && docker save --output build/image.tar $(IMAGE) && gzip --force build/image.tar

promoted: ## offers a pull request by which all runs from the version that has the traffic; wants gh
	.github/promoted.sh

notes: ## writes the CHANGELOG's section of $VERSION to build/notes.md
	.github/notes.sh

publish: notes ## pushes, signs and tells of build/image.tar.gz; wants VERSION, REPOSITORY, cosign and gh
	.github/publish.sh

e2e: .venv ## the walk (tests/e2e/walk) on Knative in kind: path, canary, faults, deletion; wants Docker, kind and kubectl
	tests/e2e/run.sh

audit: .venv-tools/installed ## refuses a runtime lock with known vulnerabilities
	$(TOOLS)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.txt

workflows: .venv-tools/installed ## workflows, Dockerfile, scripts and YAML; secrets in the tree and its history
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(TOOLS)/actionlint
	$(TOOLS)/zizmor $(if $(GH_TOKEN),,--offline) --no-progress --quiet .github
	$(TOOLS)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(TOOLS)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(TOOLS)/yamllint --strict .
	$(TOOLS)/hadolint Dockerfile
	git ls-files -z '*.sh' .ci/run | xargs -0 $(TOOLS)/shellcheck
	$(TOOLS)/gitleaks git --no-banner --redact .

format: .venv ## has ruff mend and format the code
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: .venv ## after a change of pyproject.toml; the image takes the versions that the tests ran with
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pyproject.toml --group dev --extra monitor --extra otel --extra rollout -o requirements-dev.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pyproject.toml --extra monitor --extra rollout -c requirements-dev.txt -o requirements.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pyproject.toml --group local --extra monitor -c requirements-dev.txt -o requirements-local.txt
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) --group tools -o requirements-tools.txt

terraform: .venv .venv-tools/installed ## infra/ as far as it can be checked without an account
	infra/terraform/check.sh

samples: .venv ## draws the sample shelves anew
	$(BIN)/python -m model.render --samples local/samples

judge: .venv ## the pictures and true boxes that judge a rollout
	$(BIN)/python -m model.render --judge knative/rollout/judge

# From photos to a detector: make model DATA=photos [GAPS=empty] [ARCH=yolo11l] [WEIGHTS=model/shelf.safetensors] [EPOCHS=30]
# DATA are photos of which products are labelled, GAPS photos of which gaps are; with GAPS the network learns both.
# EPOCHS=0 takes WEIGHTS as they are. model/MODEL_CARD.md has examples.
ARCH ?= yolo11n
# Not from the environment, where WSL has the computer's name.
NAME = shelf-$(ARCH)
EPOCHS ?= 30
# What ships looks at 896 px; the large model keeps its time at 640.
SIZE ?= $(if $(filter yolo11n,$(ARCH)),896,640)
DRAWN ?= 0
LABEL ?= $(if $(GAPS),,product)
MAX_LOSS ?= 1
TRAINING_DATA ?= $(shell cd "$(DATA)" 2>/dev/null && basename "$$PWD")
MODEL_VENV ?= .venv-model
OUTPUT ?= $(if $(filter yolo11n,$(ARCH)),model/shelf.onnx,build/$(NAME).onnx)# only the small one is for Git
MODEL ?= model/shelf.onnx
# Paths may hold blanks; within quotes no shell knows the tilde, which zsh passes on.
$(foreach path,DATA GAPS WEIGHTS MODEL OUTPUT,$(eval override $(path) := $$(patsubst ~/%,$$(HOME)/%,$$($(path)))))
ROAD := build/model/$(NAME)
CHECKPOINT := $(if $(filter 0,$(EPOCHS)),$(WEIGHTS),build/train/$(NAME)/weights/best.pt)
TRAIN_OPTIONS = --arch $(ARCH) --epochs $(EPOCHS) --size $(SIZE) --drawn $(DRAWN) --name $(NAME) \
	$(if $(GAPS),--gaps "$(GAPS)") $(if $(HOURS),--hours $(HOURS)) \
	$(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(RESUME),--resume) $(if $(SET),--set $(SET))

# What is missing is said before a venv is built.
ifneq ($(filter model,$(MAKECMDGOALS)),)
$(if $(DATA),,$(error DATA is empty: make model DATA=folder with images/{train,val} and labels/))
$(if $(CHECKPOINT),,$(error WEIGHTS is empty: EPOCHS=0 takes a checkpoint as it is))
endif
ifneq ($(filter evaluate preview,$(MAKECMDGOALS)),)
$(if $(DATA),,$(error DATA is empty: make $(MAKECMDGOALS) DATA=folder with images/ and labels/, or a COCO file))
endif

model: $(MODEL_VENV)/bin/yolo ## train, export, calibrate, quantise, evaluate; a file that fails a check replaces nothing
	$(if $(filter 0,$(EPOCHS)),,$(MODEL_VENV)/bin/python -m model.train --data "$(DATA)" $(TRAIN_OPTIONS))
	$(MODEL_VENV)/bin/python -m model.export "$(CHECKPOINT)" --output $(ROAD)/float.onnx --size $(SIZE) \
		--label "$(LABEL)" --name $(NAME) --training-data "$(TRAINING_DATA)" --license "$(WEIGHTS_LICENSE)"
	$(MODEL_VENV)/bin/python -m model.calibrate $(ROAD)/float.onnx --data "$(DATA)/images/train" $(if $(GAPS),--gaps "$(GAPS)") --output $(ROAD)/float.onnx
	$(MODEL_VENV)/bin/python -m model.quantize $(ROAD)/float.onnx --calibration "$(DATA)/images/train" --output $(ROAD)/int8.onnx
	$(MODEL_VENV)/bin/python -m model.calibrate $(ROAD)/int8.onnx --data "$(DATA)/images/train" $(if $(GAPS),--gaps "$(GAPS)") --output $(ROAD)/int8.onnx
	$(MODEL_VENV)/bin/python -m model.evaluate --data "$(DATA)/images/val" --model $(ROAD)/float.onnx $(ROAD)/int8.onnx \
		--max-loss $(MAX_LOSS) --plots $(ROAD)
	$(MODEL_VENV)/bin/python -m model.gate $(ROAD)/int8.onnx $(if $(filter model/%,$(OUTPUT)),--max-megabytes 10)
	@cp $(ROAD)/int8.onnx "$(OUTPUT)" && echo "wrote $(OUTPUT); serve it: SHELFWATCH_MODEL='$(OUTPUT)' make serve"

evaluate: .venv ## scores a detector: make evaluate DATA=photos/images/val [GAPS=empty] [MODEL=mine.onnx]
	$(BIN)/python -m model.evaluate --data "$(DATA)" $(if $(GAPS),--gaps "$(GAPS)") --model "$(MODEL)"

preview: .venv ## labels and detections side by side in build/preview.html: make preview DATA=photos/images/val [MODEL=mine.onnx]
	$(BIN)/python -m model.preview --data "$(DATA)" --model "$(MODEL)" --output build/preview.html

$(MODEL_VENV)/bin/yolo: # a venv that has Ultralytics is taken as it is
	$(PYTHON) -m venv $(MODEL_VENV)
	$(MODEL_VENV)/bin/pip install --disable-pip-version-check -r model/requirements.txt

.venv: .venv/installed
.venv/installed: requirements-dev.txt # a file, so that a broken install is not taken for a whole one
	@local/install.sh $(PYTHON) $< "what tests, types and lint need (about 850 MB)"
	@touch .venv/running .venv/installed
.venv/running: requirements-local.txt # a third of it: what runs, and the embedded AWS
	@if [ .venv/installed -nt $< ]; then :; else local/install.sh $(PYTHON) $< "what running needs (about 320 MB)"; fi
	@touch .venv/running

.venv-tools/installed: requirements-tools.txt
	$(PYTHON) -m venv .venv-tools
	$(TOOLS)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	@touch .venv-tools/installed

clean: ## removes all that make has put here, checkpoints of training too; nothing lies elsewhere
	rm -rf .venv .venv-bench .venv-model .venv-tools .hypothesis .mypy_cache .pytest_cache .ruff_cache build
	find . -name __pycache__ -type d -prune -not -path './.git/*' -exec rm -rf {} +
