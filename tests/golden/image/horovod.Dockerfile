# tensorflow-2.15+horovod for Python 3.11, rendered by tensoryard

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

# Horovod, compiled before for this TensorFlow, Python and MPI
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=bind,source=0bd3dcd5/horovod-0.28.1-cp311-cp311-linux_x86_64.whl,target=/mnt/horovod-0.28.1-cp311-cp311-linux_x86_64.whl \
    uv pip install --python /opt/environment --no-deps --compile-bytecode /mnt/horovod-0.28.1-cp311-cp311-linux_x86_64.whl \
 && python -c 'import horovod.tensorflow'

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
      org.tensoryard.key="1472d2d5a5bc3a0d" \
      org.tensoryard.lock="sha256:4e910057c6d906bd022fa9b55824567e2244343d500051c93813054bb757c32f"
USER 1000:1000
