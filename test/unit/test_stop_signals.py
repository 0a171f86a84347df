"""Stop signals, in processes of their own: handlers belong to the whole process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest


def run_script(body: str) -> subprocess.CompletedProcess[str]:
    begin = """
        import os, signal, threading
        from cluster.stop_signals import StopSignals
        from cluster.threads import ThreadRegistry
        stop = threading.Event()
        threads = ThreadRegistry()
    """
    script = textwrap.dedent(begin) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_while_main_is_about_to_wait_is_not_lost(name: str) -> None:
    # a handler in the main thread would wait here for a lock that the main thread holds
    done = run_script(f"""
        StopSignals(stop.set, threads.spawn)
        with stop._cond:
            os.kill(os.getpid(), signal.{name})
            for _ in range(1000):
                pass
        assert stop.wait(20)
        os.kill(os.getpid(), signal.{name})
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_ends_the_thread_and_calls_nobody() -> None:
    done = run_script("""
        signals = StopSignals(stop.set, threads.spawn)
        signals.close()
        assert threads.join_all(20) == []
        assert not stop.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert (done.returncode, done.stderr) == (0, "")
