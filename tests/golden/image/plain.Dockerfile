# tensorflow-2.15 for Python 3.11, rendered by tensoryard

# base: docker.io/library/python:3.11-slim-bookworm as it was when the environment was locked
FROM docker.io/library/python@sha256:a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1

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

# what it is
LABEL org.opencontainers.image.title="tensorflow-2.15" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm" \
      org.tensoryard.key="e93c19e4ae28876f" \
      org.tensoryard.lock="sha256:a4d7c13d9693fe3efea2138b5400bbbbbcc08b601f221595c4c3ca05e08b6c01"
USER 1000:1000
