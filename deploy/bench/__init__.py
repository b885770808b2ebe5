"""Benchmarks of the served stack: `pe-bench speed | resilience | gpu`.

harness/     starts stacks and gateways, generates load, reads CPU time and memory, compares figures with targets
speed/       rates, latencies and CPU time beside the limits of the machine
resilience/  overload, deadlines, faults of Triton, slow clients, damaged inputs, memory growth
gpu/         the vision tower alone on an NVIDIA GPU, beside torch
"""
