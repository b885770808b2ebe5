# The exporter: docker build --file deploy/images/export.Dockerfile --tag perception-encoder-export .
# It is made from the very image that serves, so that the plans it builds are of the TensorRT that will load them.
ARG TRITON_RELEASE=26.11
FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
LABEL org.opencontainers.image.title="Perception Encoder export" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv --without-pip /opt/export
# The exporter's own needs alone, as tested: the project's dependencies are the gateway's.
COPY constraints/export.txt constraints/build.txt ./
RUN python3 -m pip --python /opt/export/bin/python install --no-deps --require-hashes -r export.txt
# TensorRT's Python interface to the library that the image has: the library would refuse another release's interface.
COPY export/preflight.py ./
RUN tensorrt="$(python3 -c 'import preflight; print(preflight.this_machine().tensorrt)')" \
 && python3 -m pip --python /opt/export/bin/python install --no-deps "tensorrt-cu13-bindings==${tensorrt}.*"
COPY pyproject.toml README.md LICENSE ./
COPY export export
RUN python3 -m pip --python /opt/export/bin/python install --no-deps --require-hashes -r build.txt \
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
