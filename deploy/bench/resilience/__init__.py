"""Measure how the served stack behaves under overload, faults and attack.

The stack is the real `pe-serve` around a stub model of a fixed service time (`harness/stub_model`). Each module
measures one kind of trouble and returns figures beside their targets. `cli` writes them down as Markdown and JSON.
"""
