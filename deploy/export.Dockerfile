# The exporter: docker build --file deploy/export.Dockerfile --tag perception-encoder-export .
# From the very image that serves, so that the plans it builds are of the TensorRT that will load them.
ARG TRITON_RELEASE=26.11
FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
LABEL org.opencontainers.image.title="Perception Encoder export" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv --without-pip /opt/export
COPY pyproject.toml constraints/export.txt constraints/build-hashed.txt ./
# The exporter's own needs alone, as tested: the project's dependencies are the gateway's.
RUN python3 -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['export'], sep='\n')" \
    > requirements.txt \
 && python3 -m pip --python /opt/export/bin/python install --constraint export.txt --requirement requirements.txt
# TensorRT's Python interface to the library that the image has: another release's would not load it.
COPY export/preflight.py ./
RUN tensorrt="$(python3 -c 'import preflight; print(preflight.this_machine().tensorrt)')" \
 && python3 -m pip --python /opt/export/bin/python install --no-deps "tensorrt-cu13-bindings==${tensorrt}.*"
COPY README.md LICENSE ./
COPY export export
RUN python3 -m pip --python /opt/export/bin/python install --no-deps --require-hashes -r build-hashed.txt \
 && python3 -m pip --python /opt/export/bin/python install --no-deps --no-build-isolation . \
 && rm /opt/export/bin/pe-bench /opt/export/bin/pe-gateway /opt/export/bin/pe-serve \
 && install --directory --owner=1000 --group=1000 /repository /cache
# Downloaded weights and TensorRT's timings: worth a volume.
ENV PATH=/opt/export/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
# The user that the stock image has made for Triton.
USER 1000:1000
WORKDIR /tmp
# The first is the stock image's own: it makes older drivers do.
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "pe-export"]
