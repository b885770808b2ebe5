"""What Prometheus and Grafana are given; README.md tells how."""
