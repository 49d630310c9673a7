"""A folder is held on all machines that mount it; here, two machines are two names."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from facecade.base import lease
from facecade.base.errors import FacecadeError
from facecade.base.files import bytes_hash
from facecade.base.lease import LEASE_FILE, Lease, held, leased, require_unleased, see_latest


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "STALE_SECONDS", 0.8)


def of_other_machine(folder: Path) -> bytes:
    content = Lease(machine="other", host="node7", process=1, token="x").model_dump_json().encode()
    (folder / LEASE_FILE).write_bytes(content)
    return content


def test_a_lease_is_renewed_and_removed(tmp_path: Path) -> None:
    with held(tmp_path):
        first = (tmp_path / LEASE_FILE).read_bytes()
        time.sleep(0.4)
        assert (tmp_path / LEASE_FILE).read_bytes() != first
    assert not (tmp_path / LEASE_FILE).exists()


def test_the_lease_of_a_killed_process_of_this_machine_means_nothing(tmp_path: Path) -> None:
    """The system ended its lock, which `held` takes first; nobody waits."""
    old = Lease(machine=lease.this_machine(), host="this", process=1, token="x")
    (tmp_path / LEASE_FILE).write_text(old.model_dump_json())
    started = time.monotonic()
    with held(tmp_path):
        pass
    assert time.monotonic() - started < 0.5


def test_another_machine_that_works_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leased([tmp_path]):
        token = lease._token(tmp_path)
        monkeypatch.setattr(lease, "this_machine", lambda: "other")
        for attempt in (lambda: held(tmp_path).__enter__(), lambda: require_unleased(tmp_path)):
            with pytest.raises(FacecadeError, match=f"another process works in {tmp_path}, on "):
                attempt()
        assert lease._token(tmp_path) == token


@pytest.mark.parametrize("content", [None, b"", b"{", b"x" * 9999])
def test_a_silent_lease_of_another_machine_is_taken_over(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Also one that was cut off when its machine was lost."""
    of_other_machine(tmp_path)
    if content is not None:
        (tmp_path / LEASE_FILE).write_bytes(content)
    started = time.monotonic()
    require_unleased(tmp_path)
    with held(tmp_path):
        assert lease._token(tmp_path) not in ("x", None)
    assert time.monotonic() - started > 2 * lease.STALE_SECONDS
    assert "waiting up to" in capsys.readouterr().err


def test_one_of_many_takes_a_silent_lease_over(tmp_path: Path) -> None:
    """Machines that all find it at the same moment; the others see the winner renew its own."""
    of_other_machine(tmp_path)
    won: list[int] = []
    refused: list[str] = []
    end = threading.Event()

    def machine(number: int) -> None:
        try:
            with leased([tmp_path]):
                won.append(number)
                end.wait(10)
        except FacecadeError as error:
            refused.append(str(error))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "this_machine", lambda: threading.current_thread().name)
        threads = [threading.Thread(target=machine, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while len(won) + len(refused) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        end.set()
        for thread in threads:
            thread.join()
    assert len(won) == 1 and len(refused) == 7, (won, refused)


def test_a_claim_of_a_lost_process_holds_nobody_up(tmp_path: Path) -> None:
    """It was lost in the moment between its claim and its lease."""
    (tmp_path / f"{LEASE_FILE}-{bytes_hash(of_other_machine(tmp_path))}").touch()
    with held(tmp_path):
        assert lease._token(tmp_path) not in ("x", None)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_who_was_taken_over_says_so(tmp_path: Path) -> None:
    with pytest.raises(FacecadeError, match="has taken over"), leased([tmp_path]):
        content = of_other_machine(tmp_path)
        time.sleep(0.4)
    assert (tmp_path / LEASE_FILE).read_bytes() == content, "the other one's lease stays"


def test_looking_at_a_folder_leaves_nothing(tmp_path: Path) -> None:
    see_latest(tmp_path)
    see_latest(tmp_path / "missing")
    assert not list(tmp_path.iterdir())


def test_who_waits_gets_the_folder_of_a_process_that_ends(tmp_path: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with held(tmp_path):
            begun.set()
            ended.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(10)
    with pytest.raises(FacecadeError, match="another process works in"), held(tmp_path):
        pass
    threading.Timer(0.3, ended.set).start()
    with held(tmp_path, wait=10):
        pass
    thread.join()
