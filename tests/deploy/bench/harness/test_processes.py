import os
import time

from deploy.bench.harness import processes


def test_cpu_seconds_are_those_of_the_process() -> None:
    with processes.cpu_of({"me": [os.getpid()], "nobody": [2**22 + 1]}) as spent:
        begun = time.process_time()
        while time.process_time() < begun + 0.2:
            pass
    assert abs(spent["me"] - 0.2) <= 0.05
    assert spent["nobody"] == 0


def test_memory_and_threads_of_the_process() -> None:
    memory = processes.memory_mb(os.getpid())
    assert 10 < memory["now"] <= memory["peak"]
    assert processes.threads(os.getpid()) >= 1


def test_the_description_of_the_machine_has_no_host_name() -> None:
    assert os.uname().nodename not in str(processes.machine().values())
