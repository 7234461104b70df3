"""A store that takes the request and then says nothing."""

import pytest

from faulty_store import FaultyStore
from ganomaly.errors import StoreError
from ganomaly.files import written_whole
from ganomaly.remote import RemoteFile, read, stores, transfer


def test_silence_ends_after_the_time_limit_in_one_sentence(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "READ_SECONDS", 1.0)
    monkeypatch.setattr(stores, "REQUEST_TRIES", 1)
    monkeypatch.setattr(transfer, "TRIES", 2)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)
    stores._s3.cache_clear()
    file = RemoteFile("s3://parts/1.png")
    with written_whole(file) as part:
        part.write_bytes(b"content")
    store.reset(slow=1.0, delay=4.0)
    with pytest.raises(StoreError, match=r"cannot read s3://parts/1\.png: .*, 2 times; check the address"):
        read(file)
    store.reset()
    assert read(file) == b"content"
