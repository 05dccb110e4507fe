"""The generated protobuf code is that of the .proto files beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from indexer.wire import hparams_pb2, mindspore_pb2, tensorboard_pb2

TOP = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", [tensorboard_pb2, mindspore_pb2, hparams_pb2])
def test_generated_code_is_current(module: object, tmp_path: Path) -> None:
    """Compiling the .proto file again gives the descriptor that is committed."""
    pytest.importorskip("grpc_tools", reason="the dev extra brings the compiler")
    committed = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(committed)  # type: ignore[attr-defined]
    out = tmp_path / "set.pb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--descriptor_set_out={out}", committed.name]
    subprocess.run(command, cwd=TOP, check=True)
    (made,) = FileDescriptorSet.FromString(out.read_bytes()).file
    for field in ("json_name",):  # the compiler adds what the runtime leaves out
        _clear(made, field)
        _clear(committed, field)
    assert committed == made


def _clear(file: FileDescriptorProto, field: str) -> None:
    pending = list(file.message_type)
    while pending:
        message = pending.pop()
        pending.extend(message.nested_type)
        for member in message.field:
            member.ClearField(field)  # type: ignore[arg-type]


def test_our_packages_are_our_own() -> None:
    """No message of ours is registered under the name of somebody else's."""
    assert ["summarydb.tensorboard", "summarydb.mindspore", "summarydb.hparams"] == [
        module.DESCRIPTOR.package for module in (tensorboard_pb2, mindspore_pb2, hparams_pb2)
    ]
