"""``pe-hold``: whether the server holds: under load, under faults, under attack.

    stand_in -> a variant whose models take a fixed time, and answer wrongly when told to
    bed -> the real pe-serve around it, and gateways of other settings
    capacity, deadlines, admission, soak, faults, drain, connections, fuzz -> figures
    report -> each figure beside its target, as Markdown and JSON

The load generator, the addresses of a stack and its processes' costs are pe-bench's (deploy/benchmark).
"""
