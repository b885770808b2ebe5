"""`pe-bench first-check`: export, serve, replay known pictures and texts, measure, and write one report."""
