"""What needs torch is not even imported in an environment that lacks it."""

from importlib.util import find_spec

if find_spec("torch") is None:
    collect_ignore = ["test_gpu.py"]
