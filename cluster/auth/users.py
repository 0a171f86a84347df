"""Password hashes and their verification."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading

_N, _R, _P = 1 << 14, 8, 1
_SALT_BYTES = 16
_MAX_REMEMBERED = 1024
_MAX_HASHING = 4


def hash_password(password: str) -> str:
    """Return a salted scrypt hash as text, parameters included. Takes some 50 ms by design."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P)
    parts = [base64.b64encode(part).decode() for part in (salt, digest)]
    return f"scrypt${_N}${_R}${_P}${parts[0]}${parts[1]}"


def verify_password(password: str, stored: str) -> bool:
    """Compare a password with a stored hash in constant time.

    Raises:
        ValueError: the stored text is not a hash made by `hash_password`.
    """
    try:
        kind, n, r, p, salt, digest = stored.split("$")
        expected = base64.b64decode(digest, validate=True)
        if kind != "scrypt":
            raise ValueError(f"unknown kind {kind!r}")
        actual = hashlib.scrypt(
            password.encode(),
            salt=base64.b64decode(salt, validate=True),
            n=int(n),
            r=int(r),
            p=int(p),
        )
    except ValueError as error:
        raise ValueError(f"not a password hash: {error}") from error
    return hmac.compare_digest(actual, expected)


class PasswordVerifier:
    """Remembers successful verifications, so that repeated logins cost microseconds.

    What is remembered is a MAC under a key of this process, never the password. Thread-safe. Few
    passwords are hashed at a time: each takes 16 MiB, and anyone who reaches the port can ask.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._hashing = threading.BoundedSemaphore(_MAX_HASHING)
        self._remembered: dict[str, bytes] = {}

    def verify(self, user: str, stored: str, password: str) -> bool:
        """Whether `password` fits `stored`; `user` only names what to remember."""
        mac = hmac.digest(self._key, f"{stored}\0{password}".encode(), "sha256")
        known = self._remembered.get(user)
        if known is not None and hmac.compare_digest(known, mac):
            return True
        with self._hashing:
            fits = verify_password(password, stored)
        if not fits:
            return False
        with self._lock:
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[user] = mac
        return True
