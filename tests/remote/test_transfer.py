"""Files in a bucket: read, listed and written, with faults on the way."""

import traceback
from pathlib import Path

import pytest

from faulty_store import KEY, SECRET, FaultyStore, make_public
from ganomaly.errors import OutputError, StoreError, StoreRefusalError, UsageError
from ganomaly.files import written_whole
from ganomaly.remote import RemoteFile, list_files, local_copy, read, stored_file, transfer, upload

CONTENT = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.01)


def put(name: str, content: bytes = CONTENT) -> RemoteFile:
    file = RemoteFile(f"s3://parts/{name}")
    with written_whole(file) as part:
        part.write_bytes(content)
    return file


def test_listing_reads_no_content_and_leaves_out_hidden_files(store: FaultyStore) -> None:
    for name in ("a/1.png", "a/b/2.png", ".a/3.png", "c.txt"):
        put(name)
    store.reset()
    assert [(s.name, s.size) for s in list_files(RemoteFile("s3://parts"))] == [
        ("a/1.png", len(CONTENT)),
        ("a/b/2.png", len(CONTENT)),
        ("c.txt", len(CONTENT)),
    ]
    assert not store.read_bytes
    assert store.requests == {"GET": 1}


def test_what_is_cut_or_refused_is_read_again(store: FaultyStore) -> None:
    file = put("1.png")
    store.reset(fail=0.1, cut=0.4)
    for _ in range(8):
        assert read(file) == CONTENT
    assert store.faults > 3


def test_a_large_file_is_uploaded_whole_in_spite_of_faults(store: FaultyStore, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(CONTENT * 2000)  # 20 MB: several parts
    store.reset(fail=0.1)
    upload(large, RemoteFile("s3://parts/large.bin"))
    store.reset()
    with local_copy(RemoteFile("s3://parts/large.bin")) as copy:
        assert copy.read_bytes() == large.read_bytes()


def test_a_web_server_that_fails_is_no_missing_file(store: FaultyStore) -> None:
    make_public(put("1.png"))
    file = RemoteFile(f"{store.url}/parts/1.png")
    store.reset(fail=0.3, cut=0.2)
    for _ in range(8):
        assert read(file) == CONTENT
    assert store.faults >= 2
    store.reset()
    with pytest.raises(FileNotFoundError):
        read(RemoteFile(f"{store.url}/parts/2.png"))


def test_a_file_whose_writing_fails_does_not_appear(store: FaultyStore) -> None:
    file = RemoteFile("s3://parts/table.csv")
    with pytest.raises(ZeroDivisionError), written_whole(file) as part:
        part.write_bytes(CONTENT[: 1 // 0])
    assert stored_file(file) is None
    with pytest.raises(OutputError, match=r"s3://parts/table\.csv is as it was"), written_whole(file):
        raise OSError(28, "No space left on device")
    assert stored_file(file) is None


def test_a_store_that_never_answers_is_one_sentence(
    store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TRIES", 2)
    file = put("1.png")
    store.reset(cut=1.0)
    with pytest.raises(StoreError, match=r"cannot read s3://parts/1\.png: .*, 2 times; check the address"):
        read(file)


def test_what_is_missing_or_forbidden_is_told_apart_without_credentials(store: FaultyStore) -> None:
    with pytest.raises(FileNotFoundError):
        read(RemoteFile("s3://parts/nothing.png"))
    file = put("1.png")
    store.reset(fail=1.0, status=403)
    with pytest.raises(StoreRefusalError) as refused:
        read(file)
    assert KEY not in str(refused.value)
    assert SECRET not in str(refused.value)
    assert store.requests.total() == 1  # asked once: the next time would say the same


@pytest.mark.parametrize("url", ["https://host/table.csv", "hf://datasets/org/x/table.csv", "s3://bucket"])
def test_where_nothing_can_be_written_is_said_before_work_starts(url: str) -> None:
    with pytest.raises(UsageError, match="cannot write"), written_whole(RemoteFile(url)):
        raise AssertionError


def test_a_key_in_an_address_is_not_shown() -> None:
    file = RemoteFile("https://user:password@host/a.png?X-Amz-Signature=secret")
    assert "secret" not in f"{file}{file!r}{file.parent}"
    assert "password" not in f"{file}{file!r}{file.parent}"
    assert file.suffix == ".png"


def test_a_key_is_not_in_the_error_of_a_missing_file(store: FaultyStore) -> None:
    host = store.url.removeprefix("http://")
    file = RemoteFile(f"http://user:password@{host}/parts/2.png?X-Amz-Signature=secret")
    with pytest.raises(FileNotFoundError) as missing:
        read(file)
    shown = "".join(traceback.format_exception(missing.value))
    assert shown.endswith(f"FileNotFoundError: {store.url}/parts/2.png\n")
    assert "secret" not in shown
    assert "password" not in shown
