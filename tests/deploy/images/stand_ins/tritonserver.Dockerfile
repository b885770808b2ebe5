# Stands in for NVIDIA's image of Triton: the embedded Triton, an older release, as `tritonserver`, with a Python-based
# backend in place of NVIDIA's onnxruntime. It has no CUDA. TensorRT for RTX takes the place of TensorRT.
FROM pe-test/python
ARG TENSORRT
RUN echo "triton-server:x:1000:1000::/home/triton-server:/bin/bash" >> /etc/passwd \
 && echo "triton-server:x:1000:" >> /etc/group \
 && touch "/usr/lib/x86_64-linux-gnu/libnvinfer.so.${TENSORRT}" \
 && python3 -m venv --without-pip /opt/embedded
COPY --from=tensorrt . /opt/tensorrt/
RUN packages=$(python3 -c 'import site; print(site.getsitepackages()[-1])')/tensorrt && mkdir -p "$packages" \
 && printf '%s\n' 'import sys' 'sys.path.append("/opt/tensorrt")' 'from tensorrt_rtx_bindings import *' >"$packages/__init__.py"
COPY --from=packages . /opt/embedded/lib/python3.11/site-packages/
RUN cd /opt/embedded/lib/python3.11/site-packages/pytriton/tritonserver \
 && mkdir /opt/backends \
 && cp -r backends/python /opt/backends/python \
 && cp python_backend_stubs/3.11/triton_python_backend_stub /opt/backends/python/
COPY --from=backend . /opt/backends/onnxruntime/
COPY tritonserver /usr/local/bin/
COPY nvidia_entrypoint.sh /opt/nvidia/
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh"]
