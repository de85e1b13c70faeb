from __future__ import annotations

from tests.core.ends import seeded
from tunnel.core.indices import IndexTable


def test_owners_are_found_until_released() -> None:
    table: IndexTable[str] = IndexTable(seeded(1))
    one, other = table.allocate("one"), table.allocate("other")
    assert (table.get(one), table.get(other), len(table)) == ("one", "other", 2)
    table.release(one)
    assert (table.get(one), table.get(other), len(table)) == (None, "other", 1)
    table.release(one)
    assert len(table) == 1


def test_an_index_is_unique_and_not_zero() -> None:
    drawn = iter([b"\0\0\0\0", b"\7\0\0\0", b"\7\0\0\0", b"\0\0\0\0", b"\x08\0\0\0"])
    table: IndexTable[str] = IndexTable(lambda length: next(drawn))
    assert table.allocate("one") == 7
    assert table.allocate("other") == 8
    assert table.get(0) is None


def test_a_released_index_may_come_again() -> None:
    table: IndexTable[str] = IndexTable(lambda length: b"\1" * length)
    first = table.allocate("one")
    table.release(first)
    assert table.allocate("other") == first
