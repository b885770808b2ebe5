"""Benchmarks of the served stack: `pe-bench speed | resilience | gpu | tune | first-check`.

- `harness/` starts stacks and gateways, generates load, reads CPU time and memory, and compares figures with targets.
- `speed/` measures rates, latencies and CPU time, beside the limits of the machine.
- `against/` measures another server in turn with this one.
- `resilience/` measures overload, deadlines, faults of Triton, slow clients, damaged inputs and memory growth.
- `gpu/` runs experiments on an NVIDIA GPU.
- `tuning/` looks for the settings with which a Triton serves most.
- `first_check/` checks a new installation and writes one report.
"""
