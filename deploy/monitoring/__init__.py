"""The configuration of Prometheus and Grafana. README.md says how to use it."""
