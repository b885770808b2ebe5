import sys

import pytest

from deploy.bench.harness.worker import Worker, WorkerFailed

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_a_worker_replies_and_ends() -> None:
    with Worker([sys.executable, "-c", ECHO]) as worker:
        assert worker.request(a=1) == {"a": 1}
        with pytest.raises(WorkerFailed, match="no such file"):
            worker.request(failed="no such file")


def test_a_worker_that_ended_is_reported() -> None:
    with (
        Worker([sys.executable, "-c", "input(); raise SystemExit(3)"]) as worker,
        pytest.raises(WorkerFailed, match="status 3"),
    ):
        worker.request(a=1)
