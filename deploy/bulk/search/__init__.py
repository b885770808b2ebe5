"""`pe-search`: the nearest rows of a table to a text or an image."""
