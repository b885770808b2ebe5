# The exporter: docker build --file deploy/images/export.Dockerfile --tag perception-encoder-export .
# The base is the image that serves, so that TensorRT's version is the same when a plan is built and when it is loaded.
ARG TRITON_RELEASE=26.11
FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
LABEL org.opencontainers.image.title="Perception Encoder export" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv --without-pip /opt/export
# Only the exporter's dependencies, in the tested versions. The project's own dependencies are those of the gateway.
COPY constraints/export.txt constraints/build.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python3 -m pip --python /opt/export/bin/python install --no-deps --require-hashes -r export.txt
COPY pyproject.toml README.md LICENSE ./
COPY export export
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python3 -m pip --python /opt/export/bin/python install --no-deps --require-hashes -r build.txt \
 && python3 -m pip --python /opt/export/bin/python install --no-deps --no-build-isolation . \
 && rm /opt/export/bin/pe-bench /opt/export/bin/pe-gateway /opt/export/bin/pe-serve \
 && install --directory --owner=1000 --group=1000 /repository /cache
# Python bindings that load the image's own TensorRT library, whatever its version.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    python3 -m export.tensorrt_bindings /opt/export
# /cache holds downloaded weights and TensorRT's timings. Mount a volume there to keep them.
ENV PATH=/opt/export/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HOME=/cache/huggingface XDG_CACHE_HOME=/cache
# The base image's user for Triton.
USER 1000:1000
WORKDIR /tmp
# The first command is the base image's entry point. It enables CUDA's compatibility mode for older drivers.
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "pe-export"]
