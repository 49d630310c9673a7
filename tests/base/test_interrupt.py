"""Ctrl-C ends a process in time, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from facecade.base.interrupt import GRACE_SECONDS, INTERRUPTED

BEGIN = """
import hashlib, time
from facecade.base.interrupt import exit_on_interrupt
from facecade.base.threads import bounded_map

def busy(item=0):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes of C code

with exit_on_interrupt(lambda: print("last words", flush=True)):
    print("begun", flush=True)
"""


ROOT = Path(__file__).parents[2]


def begun(code: str) -> subprocess.Popen[str]:
    """A process that runs code within `exit_on_interrupt`, once it is there."""
    lines = BEGIN + "\n".join(f"    {line}" for line in code.splitlines())
    process = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("code", ["busy()", "list(bounded_map(busy, [1], 1))"])
def test_a_process_ends_while_a_library_computes(code: str) -> None:
    process = begun(code)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert GRACE_SECONDS - 0.1 < time.monotonic() - started < GRACE_SECONDS + 4
    assert (process.returncode, out, err) == (INTERRUPTED, "last words\n", "")


def test_a_second_interrupt_does_not_disturb_what_cleans_up() -> None:
    process = begun("try:\n    time.sleep(60)\nfinally:\n    time.sleep(0.5)\n    print('cleaned', flush=True)")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    out, err = process.communicate(timeout=60)
    assert out == "cleaned\n" and err.splitlines()[-1] == "KeyboardInterrupt"


def test_who_handles_an_interrupt_is_not_ended() -> None:
    process = begun("try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    pass")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_what_sigterm_calls_is_called_while_a_library_computes() -> None:
    code = "import os\nfrom facecade.base.interrupt import on_terminate\n"
    code += "on_terminate(lambda: (print('terminated', flush=True), os._exit(3)))\nbusy()"
    process = begun(code)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (3, "terminated\n", "")


def test_sigterm_ends_a_process_again_once_nothing_is_to_be_said() -> None:
    code = "from facecade.base.interrupt import on_terminate\non_terminate(lambda: print('terminated', flush=True))\n"
    process = begun(f"{code}on_terminate(None)\nbusy()")
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signal.SIGTERM, "", "")


def test_interrupts_are_as_before_where_nothing_was_interrupted() -> None:
    from facecade.base.interrupt import exit_on_interrupt

    handler = signal.getsignal(signal.SIGINT)
    with exit_on_interrupt(lambda: None):
        assert signal.getsignal(signal.SIGINT) is not handler
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("started_as", [["cli.py"], ["-m", "facecade"]])
@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("click", "print('begun', flush=True); import time; time.sleep(60)"),
        (
            "sitecustomize",  # Python waits for this thread when the command has ended
            """
import threading, time

def late():
    threading.main_thread().join()
    print("begun", flush=True)
    time.sleep(60)

threading.Thread(target=late).start()
""",
        ),
    ],
)
def test_an_interrupt_before_or_after_a_command_ends_the_process_at_once(
    started_as: list[str], module: str, code: str, tmp_path: Path
) -> None:
    """While modules are imported, and while Python waits for threads and frees what torch holds."""
    (tmp_path / f"{module}.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, *started_as, "ls", "--artifacts", tmp_path],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert process.stdout and process.stderr
    while process.stdout.readline() != "begun\n":
        assert process.poll() is None
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == -signal.SIGINT and time.monotonic() - started < 2
    assert "Traceback" not in err


def test_an_error_that_an_interrupt_became_is_no_bug(tmp_path: Path) -> None:
    """Python raises RuntimeError for a KeyboardInterrupt in `__set_name__`, which torch's classes have."""
    (tmp_path / "slow.py").write_text(
        """
import time
import click

class Field:
    def __set_name__(self, owner, name):
        print("begun", flush=True)
        time.sleep(60)

@click.command("slow")
def command():
    class Record:
        field = Field()
"""
    )
    code = "from facecade.commands.command import LazyGroup; LazyGroup('facecade', modules={'slow': 'slow'})()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "slow"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    )
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (
        INTERRUPTED,
        "",
        "\nStopped. Finished work is kept; the same command continues.\n",
    )
