from __future__ import annotations

import pytest

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
