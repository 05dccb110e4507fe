"""What lies below a SQLite file: on a network file system its WAL would corrupt it.

In WAL mode all processes share memory through a mapped file, which only works within one machine, and not on every
file system of it. Source: SQLite's own page on its WAL. Decision: docs/decisions/0022-sqlite-where-it-lies.md.
"""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""Linux: what is mounted where. Elsewhere nobody can tell, and SQLite's own answer must do."""

# fmt: off
_NETWORK = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "ocfs2",
    "pvfs2", "orangefs", "davfs", "ncpfs", "coda", "wekafs", "vboxsf", "prl_fs", "vmhgfs"
))
_NETWORK_FUSE = frozenset((
    "sshfs", "s3fs", "gcsfuse", "rclone", "glusterfs", "ceph", "ceph-fuse", "juicefs", "blobfuse", "blobfuse2",
    "davfs", "davfs2", "vmhgfs-fuse", "lustre", "goofys", "geesefs", "mount-s3", "objectivefs", "moosefs",
    "lizardfs"
))
# fmt: on
_OCTAL = re.compile(r"\\([0-7]{3})")


def network(file: Path) -> str | None:
    """Return the kind of the network file system that `file` lies on, None where it is a local one or not known."""
    if str(file).startswith("\\\\"):
        return "a Windows share"
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = file.parent.resolve()
    longest, kind = -1, ""
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
        depth = len(point.parts)
        if depth >= longest and place.is_relative_to(point):  # the same point again: what was mounted later is seen
            longest, kind = depth, after.partition(" ")[0]
    family, _, of_fuse = kind.partition(".")
    return kind if kind in _NETWORK or (family == "fuse" and of_fuse in _NETWORK_FUSE) else None


def in_wal_mode(file: Path) -> bool:
    """Tell whether the header of a SQLite file says WAL. Bytes 18 and 19 are its versions of writing and reading."""
    try:
        with file.open("rb") as opened:
            return opened.read(20)[18:20] == b"\x02\x02"
    except OSError:
        return False
