"""Parts that all benchmarks use: stacks, clients, load, processes, figures and their targets."""
