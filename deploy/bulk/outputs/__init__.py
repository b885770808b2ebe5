"""Where `pe-embed` writes. Each module has a `deploy.bulk.rows.Output`."""
