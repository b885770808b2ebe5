import os
import subprocess
import sys
import time

from deploy.bench.harness import processes


def test_cpu_seconds_are_those_of_the_process() -> None:
    with processes.cpu_of({"me": [os.getpid()], "nobody": [2**22 + 1]}) as spent:
        begun = time.process_time()
        while time.process_time() < begun + 0.2:
            pass
    assert 0.18 <= spent["me"] <= 0.4  # The kernel counts in ticks of 10 ms, and reading the figures costs CPU, too.
    assert spent["nobody"] == 0


def test_processes_that_come_and_go_count() -> None:
    """One child ends within the block, the other still runs at its end."""
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\n"
    with processes.cpu_of({"me": [os.getpid()]}) as spent:
        subprocess.run([sys.executable, "-c", burn], check=True, stdout=subprocess.DEVNULL)
        child = subprocess.Popen([sys.executable, "-c", burn + "time.sleep(60)"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
    with child:
        assert processes.shared_memory_mb([os.getpid()]) > processes.memory_mb(child.pid)["now"] / 2
        child.kill()
    assert spent["me"] >= 0.55


def test_memory_and_threads_of_the_process() -> None:
    memory = processes.memory_mb(os.getpid())
    assert 10 < memory["now"] <= memory["peak"]
    assert processes.threads(os.getpid()) >= 1


def test_the_description_of_the_machine_has_no_host_name() -> None:
    assert os.uname().nodename not in str(processes.machine().values())
