"""What a machine runs out of, in words: space, quota, descriptors, memory. It passes, so whoever meets it waits."""

from __future__ import annotations

import errno
import os

_WORDS = {
    errno.ENOSPC: "the disk is full; free some space and it goes on",
    errno.EFBIG: "a file may not grow further (its size is limited); raise the limit and it goes on",
    errno.EMFILE: "this process has too many files open; close some or raise `ulimit -n`, and it goes on",
    errno.ENFILE: "this machine has too many files open; it goes on when there are fewer",
    errno.ENOMEM: "memory ran out; it goes on when there is some",
}
if hasattr(errno, "EDQUOT"):  # not on Windows
    _WORDS[errno.EDQUOT] = "the disk quota is used up; free some space and it goes on"


def shortage(error: OSError) -> str | None:
    """Return what ran out, and what to do; None where `error` says something else."""
    return _WORDS.get(error.errno or 0)


def out_of_files() -> str | None:
    """Return the words for a lack of file descriptors, None where another file can be opened just now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as e:
        return shortage(e)
    return None
