"""Framing: what is a record, what is torn, what is damage, and where reading goes on."""

from __future__ import annotations

import random
import struct

import google_crc32c
import pytest

from indexer.decode import frames
from indexer.types import Damage
from tests.support.records import frame, header, masked_crc

# docs/formats/records.md: whole records of a MindSpore file.
VECTORS = [
    "1c00000000000000c8c1951d090000000084d7d7411a114d696e6453706f72652e4576656e743a31fb6a11a6",
    "1a00000000000000129bd82d090000400084d7d74110012a0d0a0b0a046c6f73731d0000003fccb8ac5d",
    "220000000000000078113dfd090000800084d7d74110022a150a130a0177420e0802100b1a080000803f000000c069700cf1",
]
GOOD = [frame(b"first"), frame(b"second one"), frame(b"third")]


def payloads(found: frames.Frames) -> list[bytes]:
    """Return what the records hold."""
    return [bytes(record.payload) for record in found.records]


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors_of_the_format(vector: str) -> None:
    """A record written by MindSpore checks, and a builder's record is byte for byte the same."""
    record = bytes.fromhex(vector)
    found = frames.split(record)
    assert [record[12:-4]] == payloads(found)
    assert ([], len(record), 0) == (found.damages, found.end, found.need)
    assert record == frame(record[12:-4])


def test_checksum_of_the_standard_text() -> None:
    """CRC32C of "123456789" is 0xE3069283, and the file holds it masked."""
    assert 0xE3069283 == google_crc32c.value(b"123456789")
    assert frames.masked(0xE3069283) == frames.checksum(b"123456789") == masked_crc(b"123456789")


def test_tables_are_those_of_crc32c() -> None:
    """The tables give the CRC32C of every single byte, followed by zero bytes."""
    tables = frames.crc_tables()
    for zeros in range(8):
        for byte in (0, 1, 0x80, 0xFF):
            whole = google_crc32c.value(bytes([byte]) + bytes(zeros))
            assert whole == int(tables[zeros][byte]) ^ google_crc32c.value(bytes(1 + zeros))


def test_a_torn_tail_waits() -> None:
    """A file that ends inside its last record is not damaged, and says how many bytes it waits for."""
    content = b"".join(GOOD)
    whole = len(GOOD[0]) + len(GOOD[1])
    for stop in range(whole, len(content)):
        found = frames.split(content[:stop])
        need = 0 if stop == whole else 12 if stop < whole + 12 else len(GOOD[2])
        assert ([b"first", b"second one"], [], whole, need) == (payloads(found), found.damages, found.end, found.need)
        assert not found.oversize
        assert found.lost_since is None


def test_a_bad_payload_costs_one_record() -> None:
    """Reading goes on right behind a record whose payload is wrong, never inside it."""
    inner = frame(b"hidden")
    outer = bytearray(frame(b"x" + inner + b"y"))
    outer[12] ^= 1
    found = frames.split(GOOD[0] + outer + GOOD[1], base=1000)
    assert [b"first", b"second one"] == payloads(found)
    (damage,) = found.damages
    assert (1000 + len(GOOD[0]), len(outer)) == (damage.offset, damage.length)
    stored = struct.unpack("<I", outer[-4:])[0]
    assert f"payload checksum {masked_crc(bytes(outer[12:-4])):#010x}, file says {stored:#010x}" == damage.reason


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"?" * 12, "length checksum"),
        (bytes(64), "length checksum"),
        (b"!", "length checksum"),
        (header(2**40), "impossible length of 1099511627776 bytes"),
        (header(2**31), "impossible length of 2147483648 bytes"),
        (header(2**64 - 1), "impossible length of 18446744073709551615 bytes"),
    ],
)
def test_reading_resumes_behind_a_bad_length(garbage: bytes, reason: str) -> None:
    """After a bad or impossible length the next record that checks is found, wherever it starts."""
    found = frames.split(GOOD[0] + garbage + GOOD[1] + GOOD[2])
    assert [b"first", b"second one", b"third"] == payloads(found)
    (damage,) = found.damages
    assert (len(GOOD[0]), len(garbage)) == (damage.offset, damage.length)
    assert damage.reason.startswith(reason)
    assert found.lost_since is None


def test_a_header_alone_does_not_end_a_search() -> None:
    """While searching, a good header over a bad payload is passed over, and a record inside that payload counts."""
    lying = header(len(GOOD[1]) + 3) + b"abc" + GOOD[1] + b"wrong"
    found = frames.split(b"?" + lying + GOOD[2])
    assert [b"second one", b"third"] == payloads(found)
    before, behind = found.damages
    assert (0, 1 + 12 + 3) == (before.offset, before.length)
    assert (len(lying) - 4, 5) == (behind.offset, behind.length)


def test_a_search_waits_for_a_record_that_is_not_all_there() -> None:
    """A good header found while searching is waited for, though the damage before it stays open."""
    content = b"??" + GOOD[0]
    for stop in range(2 + 12, len(content)):
        found = frames.split(content[:stop])
        assert (2, len(GOOD[0]), 0) == (found.end, found.need, found.lost_since)
        assert [] == found.damages
    found = frames.split(content[2:], base=2, lost_since=0, lost_reason="why")
    assert [Damage(0, 2, "why")] == found.damages
    assert [b"first"] == payloads(found)


def test_a_header_that_was_waited_for_may_be_false() -> None:
    """Once its bytes are there a false header is passed over, and the record inside it is found."""
    content = header(100) + GOOD[0] + bytes(100)
    found = frames.split(content, base=7, lost_since=3)
    assert [b"first"] == payloads(found)
    assert Damage(3, 7 + 12 - 3, frames.UNKNOWN_LOSS) == found.damages[0]


def test_growing_garbage_is_not_read_again() -> None:
    """Garbage without an end moves `end` on, so that a growing file costs only its new bytes."""
    noise = random.Random(1).randbytes(5000)
    since, reason, end = None, None, 0
    for stop in range(0, 5001, 500):
        found = frames.split(noise[end:stop], base=end, lost_since=since, lost_reason=reason)
        end += found.end
        since, reason = found.lost_since, found.lost_reason
        assert end >= stop - 11
    assert (0, 12) == (since, found.need)
    found = frames.split(noise[end:] + GOOD[0], base=end, lost_since=since, lost_reason=reason)
    assert [Damage(0, 5000, str(reason))] == found.damages


def test_a_record_without_content_is_passed_over() -> None:
    """A record of length 0 with good checksums is neither a record nor damage."""
    found = frames.split(GOOD[0] + frame(b"") + GOOD[1])
    assert [b"first", b"second one"] == payloads(found)
    assert [] == found.damages


def test_a_record_above_the_limit_is_left_to_the_caller() -> None:
    """A record longer than the limit ends the split, whether or not its bytes are there, and says how long it is."""
    large = frame(b"z" * 100)
    for stop in (12, 50, len(large)):
        found = frames.split(GOOD[0] + large[:stop], limit=99)
        assert (len(GOOD[0]), 116, True) == (found.end, found.need, found.oversize)
        assert [b"first"] == payloads(found)
    assert not frames.split(large, limit=100).oversize
    found = frames.split(b"?" + large, limit=99)
    assert (1, 116, True, 0) == (found.end, found.need, found.oversize, found.lost_since)


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(2**19),
        random.Random(2).randbytes(2**19),
        header(2**60) * (2**19 // 12),
        header(100) * (2**19 // 12),
        header(2**17) * (2**19 // 12),
        (header(2**17 + 7) + b"?") * (2**19 // 13),
    ],
    ids=["zeros", "noise", "impossible", "short false headers", "long false headers", "long false headers, gaps"],
)
def test_a_search_reads_each_byte_a_few_times(garbage: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the garbage claims, the checksums computed over it grow with its size, not with its square."""
    read = 0
    original = frames._crc

    def counted(content: frames.Buffer, crc: int) -> int:
        nonlocal read
        read += len(content)
        return original(content, crc)

    monkeypatch.setattr(frames, "_crc", counted)
    tail = frame(b"good") + bytes(2**17 + 100)
    found = frames.split(b"?" + garbage + tail)
    assert [b"good"] == payloads(found)
    false_headers = len(garbage) // 12
    assert read < 2 * frames.PREFIX_BYTES * false_headers + 3 * len(garbage)  # a square would be a hundred times that
    assert len(garbage) + 1 == found.damages[0].length


def test_checksums_combine_at_any_length() -> None:
    """A large payload behind damage is checked by prefixes exactly as a whole one is."""
    content = random.Random(3).randbytes(300_001)
    found = frames.split(b"??" + frame(content) + GOOD[0])
    assert [content, b"first"] == payloads(found)
    broken = bytearray(frame(content))
    broken[200_000] ^= 1
    found = frames.split(b"??" + bytes(broken) + GOOD[0])
    assert [b"first"] == payloads(found)
    assert 2 + len(broken) == found.damages[0].length


def test_a_large_payload_is_a_view() -> None:
    """A payload above 1 MiB is not copied, also from a buffer that is written again and again."""
    content = bytes(2**20 + 1)
    (record,) = frames.split(bytearray(frame(content))).records
    assert isinstance(record.payload, memoryview)
    assert content == record.payload
