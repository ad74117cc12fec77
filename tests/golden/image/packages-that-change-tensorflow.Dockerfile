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

# Python packages, each checked against its digest
COPY requirements.lock /opt/
RUN --mount=type=bind,source=uv,target=/usr/local/bin/uv \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    --mount=type=secret,id=index \
    if [ -e /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi; \
    if [ -e /run/secrets/index ]; then export UV_CONFIG_FILE=/run/secrets/index; fi; \
    uv pip install --python /opt/environment --no-deps --require-hashes --compile-bytecode -r /opt/requirements.lock

# what it is
LABEL org.opencontainers.image.title="tensorflow-2.15" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm" \
      org.tensoryard.key="8f85571b7b1fbc3b" \
      org.tensoryard.lock="sha256:4bdaabb7e489cc2a9addde316ee7ecebefde90b4b628b572cbc5ebbfeef52a41"
USER 1000:1000
