# The gateway: docker build --file deploy/images/gateway.Dockerfile --tag perception-encoder-gateway .
# The gateway needs a Triton at PE_TRITON_URL. It runs as an unprivileged user on a read-only root with a writable /tmp.
# It can be built for x86-64 and for ARM64: see deploy/platforms.md.
FROM docker.io/library/python:3.11.14-slim-bookworm AS python

FROM python AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints/build.txt constraints/gateway-image.txt ./
# Every package is pinned by its hash, and none needs a compiler. The final stage copies only /opt/gateway, without pip.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python -m venv --without-pip /opt/gateway \
 && python -m pip install --no-deps --require-hashes --only-binary :all: -r build.txt \
 && python -m pip --python /opt/gateway/bin/python install \
    --no-deps --require-hashes --only-binary :all: -r gateway-image.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
# The project's other commands are removed, because this image lacks what they import.
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && python -m pip --python /opt/gateway/bin/python install --no-deps dist/*.whl \
 && rm /opt/gateway/bin/pe-bench /opt/gateway/bin/pe-export /opt/gateway/bin/pe-serve

FROM python
LABEL org.opencontainers.image.title="Perception Encoder gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip setuptools wheel
COPY --from=build /opt/gateway /opt/gateway
# The image already contains the bytecode.
ENV PATH=/opt/gateway/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 9001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
  CMD ["python", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PORT', 9001)), timeout=4); c.request('GET', '/readiness'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["pe-gateway"]
