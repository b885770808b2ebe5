"""Measure another embedding server in turn with ours: `pe-bench speed --against URL`."""
