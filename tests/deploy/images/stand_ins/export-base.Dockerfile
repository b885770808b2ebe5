# Stands in for NVIDIA's image of Triton where the exporter's image is built: pip finds torch and CUDA's libraries installed.
FROM pe-test/tritonserver
COPY --from=stubs . /opt/export/lib/python3.11/site-packages/
