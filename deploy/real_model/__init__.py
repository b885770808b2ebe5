"""`make serve VARIANT=...` or `CHECKPOINT=...`: from published or own weights to a running server.

The parts are those that a user would run one by one: `deploy/setup.sh export`, `pe-export`, `pe-serve`.
"""
