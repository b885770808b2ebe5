"""`pe-bench tune`: find the instances, batch size and queue delay with which a Triton serves most."""
