"""Which file systems a storage may be on: SQLite needs locks and a shared memory that networks do not keep.

Invariants:
- A closed list is refused; what is not on it, or cannot be found out, is allowed. So overlay, 9p (a
  container's own disk under gVisor) and the local kinds of FUSE work.
"""

from __future__ import annotations

from pathlib import Path

from forwarder.storage.errors import StorageError

NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre", "gpfs", "beegfs"),
        *("orangefs", "pvfs2", "glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph"),
        *("fuse.ceph-fuse", "fuse.s3fs", "fuse.mount-s3", "fuse.goofys", "fuse.gcsfuse", "fuse.rclone"),
        *(
            "fuse.blobfuse",
            "fuse.blobfuse2",
            "fuse.smbnetfs",
            "fuse.curlftpfs",
            "fuse.juicefs",
            "fuse.davfs2",
        ),
    }
)
"""Names as /proc/self/mountinfo has them, which tells one FUSE from another; statfs does not."""

MOUNTS = Path("/proc/self/mountinfo")


def filesystem_of(directory: Path, mounts: Path = MOUNTS) -> str:
    """The name of the file system that a directory is on, or will be made on; "" when nobody knows."""
    wanted = directory.resolve()
    found, depth = "", -1
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, kind = line.partition(" - ")
        point = Path(_unescape(mount.split(" ")[4]))
        if wanted.is_relative_to(point) and len(point.parts) >= depth:  # a later mount hides an earlier one
            found, depth = kind.split(" ")[0], len(point.parts)
    return found


def refuse_network(directory: Path, kind: str) -> None:
    if kind in NETWORK:
        message = (
            f"{directory} is on a network file system ({kind}), where commits are not safe: use a local disk"
        )
        raise StorageError("network", message)


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", character)
    return text
