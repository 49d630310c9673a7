"""One process at a time writes to a folder, also where several machines mount it.

A lock of the system (base/lock.py) holds on one machine; over NFS it may not. A lease is a file that one process creates, which
file systems do exclusively, and then renews. Whoever finds the lease of another machine watches it: if it is renewed, the folder is
held; if not, its process is gone. So the clocks of the machines do not matter.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import ClassVar

from facecade.base.artifact import Record, valid_record, writing
from facecade.base.errors import FacecadeError
from facecade.base.files import bytes_hash
from facecade.base.lock import locked
from facecade.base.progress import note

LEASE_FILE = ".lease"

RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
"""How long a lease of another machine is watched before it is taken over: a machine may be slow to write."""

HINT = "wait until it ends, or give another folder"


class Lease(Record):
    """The file of a lease. machine: of the holder, as `this_machine`. token: of the holder, drawn. renewed: how often."""

    made_by: ClassVar[str] = "fit-stage all"
    max_bytes: ClassVar[int] = 4096
    indent: ClassVar[int | None] = None

    machine: str
    host: str
    process: int
    token: str
    renewed: int = 0


@contextmanager
def held(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder, as `locked` does, on all machines that mount it; `wait` is for a process of this machine."""
    with locked(folder, wait), leased([folder]):
        yield


@contextmanager
def leased(folders: Sequence[Path]) -> Iterator[None]:
    """Hold folders against other machines. This process must have them `locked`, so an old lease of this machine means nothing.

    Raises:
        FacecadeError: a process of another machine holds one of them; or, at the end, has taken one over, because this one
            renewed no lease for STALE_SECONDS.
    """
    lease = Lease(machine=this_machine(), host=platform.node(), process=os.getpid(), token=secrets.token_hex(8))
    taken: list[Path] = []
    ended, lost = threading.Event(), set[Path]()

    def renew() -> None:
        count = 0
        while not ended.wait(RENEW_SECONDS):
            count += 1
            for folder in taken:
                if _token(folder) not in (lease.token, None):
                    lost.add(folder)
                elif folder not in lost:
                    with suppress(OSError), (folder / LEASE_FILE).open("r+b") as file:  # the next time, perhaps
                        file.write(_bytes(lease.model_copy(update={"renewed": count})))  # never shorter than before

    threading.Thread(target=renew, daemon=True).start()
    try:
        for folder in folders:
            with writing(folder):
                _take(folder / LEASE_FILE, lease)
            taken.append(folder)
        yield
        lost.update(folder for folder in taken if _token(folder) not in (lease.token, None))
        if lost:
            raise FacecadeError(f"another process has taken over {min(lost)}", "run the command again with --resume")
    finally:
        ended.set()
        for folder in taken:
            if _token(folder) == lease.token:
                (folder / LEASE_FILE).unlink(missing_ok=True)


def require_unleased(folder: Path) -> None:
    """Raises FacecadeError if a process of another machine holds the folder."""
    file = folder / LEASE_FILE
    while (seen := _read(file)) is not None and not _stale(file, seen):
        pass


@cache
def this_machine() -> str:
    """Names the machine, containers included, whose processes share locks of the system; until it is started anew."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{platform.node()} {uuid.getnode():x}"


def see_latest(folder: Path) -> None:
    """Make this machine see which files are in a folder now: NFS keeps what it knew of it for up to a minute, unless it changes the
    folder itself."""
    with suppress(OSError):
        file = folder / f".tmp-{os.getpid()}-seen"
        file.touch()
        file.unlink()


def _take(file: Path, lease: Lease) -> None:
    """Create a lease, or replace a stale one."""
    claims: set[Path] = set()
    while True:
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            seen = _read(file)
            if seen is not None and _stale(file, seen) and _replace(file, seen, lease, claims):
                return
            continue
        with open(descriptor, "wb") as opened:
            opened.write(_bytes(lease))
        return


def _replace(file: Path, seen: bytes, lease: Lease, claims: set[Path]) -> bool:
    """Replace a stale lease; False if another process is doing so, or its holder has come back.

    Many may find it stale at once. One of them creates the claim, a file with a name of its own for this very lease.

    Args:
        claims: those of others, met before: if one is met again, its process was lost in that moment.
    """
    claim = file.with_name(f"{LEASE_FILE}-{bytes_hash(seen)}")
    if claim in claims:
        claim.unlink(missing_ok=True)
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        claims.add(claim)
        return False
    temporary = file.with_name(f".tmp-{os.getpid()}-{lease.token}")
    try:
        if _read(file) != seen:
            return False
        temporary.write_bytes(_bytes(lease))
        temporary.replace(file)
        return True
    finally:
        temporary.unlink(missing_ok=True)
        claim.unlink(missing_ok=True)


def _stale(file: Path, seen: bytes) -> bool:
    """Whether the holder of a lease is gone; False if the lease has vanished meanwhile.

    Args:
        seen: what is in its file.

    Raises:
        FacecadeError: the holder works.
    """
    holder = valid_record(file, Lease)
    if holder and holder.machine == this_machine():
        return True
    host, folder = holder.host if holder else "another machine", file.parent
    note(f"{host} works in {folder}, or has stopped there: waiting up to {STALE_SECONDS:.0f} s to see")
    end = time.monotonic() + STALE_SECONDS
    while time.monotonic() < end:
        time.sleep(min(0.5, STALE_SECONDS / 10))
        now = _read(file)
        if now is None:
            return False
        if now != seen:
            holder = valid_record(file, Lease)
            raise FacecadeError(f"another process works in {folder}, on {holder.host if holder else host}", HINT)
    return True


def _bytes(lease: Lease) -> bytes:
    return lease.model_dump_json().encode()


def _read(file: Path) -> bytes | None:
    """What is in a lease's file; None where there is none."""
    try:
        with file.open("rb") as opened:
            return opened.read(Lease.max_bytes)
    except FileNotFoundError:
        return None


def _token(folder: Path) -> str | None:
    """Of the lease of a folder; None where there is none, or it is being written."""
    with suppress(OSError):
        if holder := valid_record(folder / LEASE_FILE, Lease):
            return holder.token
    return None
