"""Write the sample runs below examples/runs: `python examples/write_runs.py [DIRECTORY]`.

Three short trainings, one in MindSpore's format, two in TensorBoard's, with curves that look like training. The bytes
are the same each time. Records are framed as in docs/formats/records.md; the messages are `Event` of MindSpore's
summary.proto and of tensorflow's event.proto.
"""

from __future__ import annotations

import math
import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

START = 1_760_000_000  # seconds since the epoch: when the first training began
STEP_SECONDS = 1.5


def main() -> None:
    """Write all runs."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "runs"
    write(directory / "lenet" / f"events.out.events.summary.{START}.0.example_MS", mindspore(START, seed=1))
    for number, rate in enumerate((0.1, 0.01), start=1):
        began = START + 3_600 * number
        name = f"events.out.tfevents.{began}.example"
        write(directory / "resnet" / f"lr={rate}" / name, tensorboard(began, rate, seed=number))


def write(path: Path, records: Iterator[bytes]) -> None:
    """Write one summary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(frame, records)))


def mindspore(began: int, *, seed: int) -> Iterator[bytes]:
    """Yield the events of a training as MindSpore's SummaryCollector writes them: all scalars of a step in one."""
    yield double(1, began) + text(3, "MindSpore.Event:1")
    for step, values in training(0.05, seed=seed):
        summary = b"".join(block(1, text(1, tag) + single(3, value)) for tag, value in values.items())
        yield double(1, began + step * STEP_SECONDS) + whole(2, step) + block(5, summary)


def tensorboard(began: int, rate: float, *, seed: int) -> Iterator[bytes]:
    """Yield the events of a training as TensorBoard's writers do: one scalar each."""
    yield double(1, began) + text(3, "brain.Event:2")
    for step, values in training(rate, seed=seed):
        for tag, value in values.items():
            summary = block(1, text(1, tag) + single(2, value))
            yield double(1, began + step * STEP_SECONDS) + whole(2, step) + block(5, summary)


def training(rate: float, *, seed: int, steps: int = 300) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield what a training with learning rate `rate` would log at each step; the same numbers every time."""
    chance = random.Random(seed)  # noqa: S311  # noise, no secrets
    for step in range(1, steps + 1):
        left = math.exp(-step * (0.004 + 0.15 * rate))
        noise = chance.gauss(0, 0.04 + 0.3 * rate)
        values = {
            "train/loss": max(0.02, 0.12 + 2.2 * left + noise * (0.2 + left)),
            "train/accuracy": min(0.999, max(0.0, 0.97 - 0.87 * left + noise / 4)),
            "learning_rate": rate * (1 + math.cos(math.pi * step / steps)) / 2,
        }
        if step % 20 == 0:
            values["val/loss"] = 0.2 + 2.1 * left + abs(chance.gauss(0, 0.03))
            values["val/accuracy"] = min(0.99, 0.94 - 0.85 * left + chance.gauss(0, 0.01))
        yield step, values


def frame(payload: bytes) -> bytes:
    """Return `payload` as a record: length, its checksum, the payload, its checksum."""
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked(length)) + payload + struct.pack("<I", masked(payload))


def masked(data: bytes) -> int:
    """Return the CRC32C of `data` as records store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def entry(index: int) -> int:
    """Return one entry of the table of CRC32C (Castagnoli), reflected."""
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)
    return index


TABLE = [entry(index) for index in range(256)]


def varint(number: int) -> bytes:
    """Return a non-negative number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def whole(field: int, number: int) -> bytes:
    """Return a field with a whole number."""
    return varint(field << 3) + varint(number)


def double(field: int, number: float) -> bytes:
    """Return a field with a 64-bit float."""
    return varint(field << 3 | 1) + struct.pack("<d", number)


def single(field: int, number: float) -> bytes:
    """Return a field with a 32-bit float."""
    return varint(field << 3 | 5) + struct.pack("<f", number)


def block(field: int, content: bytes) -> bytes:
    """Return a field with bytes or a message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def text(field: int, content: str) -> bytes:
    """Return a field with text."""
    return block(field, content.encode())


if __name__ == "__main__":
    main()
