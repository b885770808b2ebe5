"""`pe-bench gpu`: experiments on an NVIDIA GPU, for a machine that can be reached for minutes and has no network."""
