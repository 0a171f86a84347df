from __future__ import annotations

import threading

import pytest

from cluster.auth import users
from cluster.auth.users import PasswordVerifier, hash_password, verify_password


def test_hashes_are_salted_and_verify() -> None:
    one, two = hash_password("s3cret"), hash_password("s3cret")
    assert one != two
    assert verify_password("s3cret", one)
    assert verify_password("s3cret", two)
    assert not verify_password("other", one)


@pytest.mark.parametrize("stored", ["", "plain", "md5$1$1$1$AA$AA", "scrypt$x$8$1$AA==$AA=="])
def test_a_damaged_hash_is_an_error_not_a_mismatch(stored: str) -> None:
    with pytest.raises(ValueError, match="not a password hash"):
        verify_password("x", stored)


def test_the_verifier_remembers_only_what_fits() -> None:
    verifier = PasswordVerifier()
    stored = hash_password("a")
    assert verifier.verify("u", stored, "a")
    assert verifier.verify("u", stored, "a")
    assert not verifier.verify("u", stored, "b")
    changed = hash_password("b")
    assert not verifier.verify("u", changed, "a")
    assert verifier.verify("u", changed, "b")


def test_few_passwords_are_hashed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    full = threading.Event()
    go_on = threading.Event()
    running: list[int] = []
    most = 0

    def slow(password: str, stored: str) -> bool:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
            if len(running) == 4:
                full.set()
        assert go_on.wait(10)
        with lock:
            running.pop()
        return False

    monkeypatch.setattr(users, "verify_password", slow)
    verifier = PasswordVerifier()
    threads = [
        threading.Thread(target=verifier.verify, args=(f"u{number}", "stored", "p"))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    assert full.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()
    assert most == 4
