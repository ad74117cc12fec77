# tensorflow-2.15+horovod for Python 3.11, rendered by tensoryard

# Horovod is compiled here, for the C library and the MPI of the base: its compilers are in no layer of the image
FROM docker.io/library/python@sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1 AS horovod
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends cmake g++ libopenmpi-dev make openmpi-bin \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/environment/bin:$PATH \
    UV_PYTHON_INSTALL_DIR=/opt/python \
    UV_LINK_MODE=copy
COPY framework.lock /opt/
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    uv venv --no-project --quiet --python 3.11 /opt/environment \
 && uv pip install --python /opt/environment --no-deps --require-hashes -r /opt/framework.lock \
 && uv pip install --python /opt/environment 'setuptools<70' wheel
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    echo 'horovod==0.28.1 --hash=sha256:05' > /opt/horovod.lock \
 && HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 \
    HOROVOD_WITH_GLOO=1 HOROVOD_WITH_MPI=1 \
    uv pip install --python /opt/environment --no-cache --no-deps --no-build-isolation --no-binary horovod \
      --require-hashes --target /opt/horovod -r /opt/horovod.lock

# base: docker.io/library/python:3.11-slim-bookworm as it was when the environment was locked
FROM docker.io/library/python@sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1

# MPI, which starts the ranks and carries what they exchange
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends openmpi-bin \
 && rm -rf /var/lib/apt/lists/*

# where Python and its packages go
ENV PATH=/opt/environment/bin:$PATH \
    UV_PYTHON_INSTALL_DIR=/opt/python \
    UV_LINK_MODE=copy
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    uv venv --no-project --quiet --python 3.11 /opt/environment

# TensorFlow and what it needs, each checked against its digest
COPY framework.lock /opt/
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    uv pip install --python /opt/environment --no-deps --require-hashes --compile-bytecode -r /opt/framework.lock

# Horovod, as it was compiled above
COPY --from=horovod /opt/horovod /opt/environment/lib/python3.11/site-packages
RUN python -m compileall -q /opt/environment/lib/python3.11/site-packages/horovod \
 && python -c 'import horovod.tensorflow as hvd; assert hvd.mpi_built()'

# Python packages of the job, each checked against its digest
COPY requirements.lock /opt/
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    uv pip install --python /opt/environment --no-deps --require-hashes --compile-bytecode -r /opt/requirements.lock

# what it is
LABEL org.opencontainers.image.title="tensorflow-2.15+horovod" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm" \
      org.tensoryard.key="7df18902f6ade8b1" \
      org.tensoryard.lock="sha256:4e910057c6d906bd022fa9b55824567e2244343d500051c93813054bb757c32f"
USER 1000:1000
