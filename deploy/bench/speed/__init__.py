"""Measure rates, latencies and CPU time of the served stack, beside the limits of the machine."""
