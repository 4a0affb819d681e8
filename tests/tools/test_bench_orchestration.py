"""What the bench of the orchestrators goes by: the memory of a process and of all that it starts."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.waiting import eventually
from tools.bench.orchestration.memory import peak_of, pss_bytes

# Holds so much, says so, and ends with its standard input.
HOLDER = "import sys; held = bytearray(b'x' * 60_000_000); print('held', flush=True); sys.stdin.read()"


def test_the_memory_of_what_a_process_starts_counts_while_it_runs() -> None:
    before = pss_bytes(os.getpid())
    assert before > 1_000_000
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        assert pss_bytes(child.pid) > 60_000_000
        assert pss_bytes(os.getpid()) > pss_bytes(child.pid)
        with peak_of(child.pid) as peak:
            eventually(lambda: peak.bytes > 0, "a look")
        child.communicate()
    assert peak.bytes > 60_000_000 and pss_bytes(child.pid) == 0
