# One image for every process of ShelfWatch (entrypoint.sh has its commands), and `--target local`, the embedded AWS
# of compose.yaml. BASE is any Debian image with CPython 3.11 or newer; a release names it by its digest.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /app
# A private index comes as `--secret id=pip,src=pip.conf`: its address stays out of the image.
# Wheels only, so no compiler is ever needed. Without what a service never imports: tests, tools that make models, ONNX
# Runtime's library for C (Python's module has all of it), and all but four of AWS's 400 services. Compiled here, as the
# root will be read-only, and unchecked, as nobody edits an image.
COPY requirements.txt .
# hadolint ignore=DL3003
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --disable-pip-version-check --quiet --no-compile \
        --only-binary :all: --require-hashes --requirement requirements.txt \
    && cd /venv/lib/python3*/site-packages \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && rm -r onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/capi/libonnxruntime.so.* \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sqs ! -name sns ! -name sts -exec rm -r {} + \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv

FROM ${BASE} AS build-local
WORKDIR /app
COPY requirements-local.txt .
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv --without-pip /venv \
    && python -m pip --python /venv/bin/python install --disable-pip-version-check --quiet \
        --only-binary :all: --require-hashes --requirement requirements-local.txt

FROM build AS code
COPY function function
COPY events events
COPY monitor monitor
COPY knative knative
RUN rm requirements.txt && python -m compileall -q --invalidation-mode unchecked-hash .

FROM code AS graph
COPY model/shelf.onnx model/
# Most of what loading a model costs is the search for nodes to fuse: done here once, not at every start.
RUN ORT_DISABLE_TELEMETRY=1 /venv/bin/python -m function.session

FROM ${BASE} AS base
# Nothing is installed after the build; pip would only be something to attack. The library comes uncompiled.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && python -m compileall -q -j 0 -x '/(ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)/' \
        --invalidation-mode unchecked-hash "$(python -c 'import os; print(os.path.dirname(os.__file__))')" \
    && groupadd --gid 65532 shelfwatch \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent shelfwatch
# ONNX Runtime reports home otherwise.
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1 HOST=0.0.0.0
WORKDIR /app
USER 65532:65532

FROM base AS local
COPY --from=build-local /venv /venv
COPY events events
COPY local local
ENTRYPOINT ["python", "-m"]
CMD ["ministack"]

# What changes least comes first, so that a push of new code is a few hundred kilobytes.
FROM base AS shelfwatch
COPY --from=build /venv /venv
COPY model/shelf.onnx model/LICENSE model/MODEL_CARD.md model/
COPY LICENSE entrypoint.sh ./
COPY --from=code /app .
COPY --from=graph /app/model/*.ort-*.onnx model/
ARG VERSION=unreleased
ARG REVISION=unknown
ARG BASE
ARG BASE_DIGEST=
LABEL org.opencontainers.image.title="ShelfWatch" \
    org.opencontainers.image.description="Audits retail shelves: a photo in, products, rows and gaps out, on CPU." \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${BASE}" \
    org.opencontainers.image.base.digest="${BASE_DIGEST}"
ENTRYPOINT ["/app/entrypoint.sh"]
CMD ["function"]
