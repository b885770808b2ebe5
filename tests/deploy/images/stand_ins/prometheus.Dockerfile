# Stands in for Prometheus's image: Debian's Prometheus, at the path and with the user of that image.
FROM pe-test/python
COPY --from=tools prometheus /bin/prometheus
RUN mkdir /prometheus && chown 65534:65534 /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
