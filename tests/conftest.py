"""For all tests."""

import re
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a rare one should fail where somebody explores (tests/fuzz), not in another change.
# Without a deadline: on a shared machine, any example can take a second.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


def pytest_configure() -> None:
    """A shell's background job, or nohup, ignores these, and so would every server that tests send them to."""
    for signum, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, usual)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip a module that `-m "not MARK"` deselects as a whole: its imports take seconds in every worker."""
    if not re.fullmatch(r"not \w+( and not \w+)*", config.option.markexpr) or collection_path.suffix != ".py":
        return None
    deselected = set(config.option.markexpr.split()) - {"not", "and"}
    marks = re.search(r"^pytestmark = (\[.*?^\]|.*?$)", collection_path.read_text(), re.DOTALL | re.MULTILINE)
    return (marks and not deselected.isdisjoint(re.findall(r"\bpytest\.mark\.(\w+)", marks[1]))) or None
