"""Sectors in plain text, against the library's own modes, one sector at a time."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks.luks import SECTOR, encrypted
from vmport_formats.encryption.sectors import Scheme, SectorCipher

MODES = [
    ("xts-plain64", 32),
    ("xts-plain64", 64),
    ("xts-plain", 64),
    ("xts-essiv:sha256", 32),
    ("cbc-plain64", 16),
    ("cbc-plain", 24),
    ("cbc-essiv:sha256", 32),
    ("cbc-essiv:md5", 16),
]


@given(
    scheme=st.sampled_from(MODES),
    first=st.one_of(st.integers(0, 1000), st.integers(2**32 - 200, 2**32 + 200), st.just(2**54)),
    count=st.sampled_from((1, 2, 127, 128, 129, 300)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_sectors_of_any_number(scheme: tuple[str, int], first: int, count: int, seed: int) -> None:
    mode, key_length = scheme
    chance = Random(seed)
    key, content = chance.randbytes(key_length), chance.randbytes(count * SECTOR)
    cipher = SectorCipher(Scheme.parse("aes", mode), key)
    assert cipher.decrypt(encrypted(content, key, mode, first), first) == content


def test_nothing_is_nothing() -> None:
    assert SectorCipher(Scheme.parse("aes", "xts-plain64"), bytes(64)).decrypt(b"", 5) == b""


@pytest.mark.parametrize(
    ("cipher", "mode"),
    [
        ("serpent", "xts-plain64"),
        ("aes", "xts"),
        ("aes", "ecb-plain64"),
        ("aes", "cbc-essiv"),
        ("aes", "cbc-essiv:sha1"),
        ("aes", "cbc-plain64:sha256"),
        ("aes", "cbc-benbi"),
        ("", ""),
    ],
)
def test_a_scheme_that_is_not_known(cipher: str, mode: str) -> None:
    with pytest.raises(ValueError):
        Scheme.parse(cipher, mode)
