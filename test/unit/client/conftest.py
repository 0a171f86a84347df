from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.fake_database import FakeDatabase, serving


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def port(database: FakeDatabase) -> Iterator[int]:
    with serving(database) as number:
        yield number
