"""The disk under the data folder: how fast, how full, of what kind, and whether what is to be kept fits on it."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
from pathlib import Path

from devices.documents import DocumentError
from devices.instants import DAY, SECOND
from devices.kinds import KINDS
from devices.town import Town
from gridwhistle.clock import wall
from gridwhistle.findings import Finding, fail, ok, warn
from gridwhistle.folders import town_in
from gridwhistle.settings import Settings

MB = 1024 * 1024
# SQLite's journal and DuckDB's checkpoint both need room beside the data.
LITTLE_DISK, TOO_LITTLE_DISK = 2048 * MB, 256 * MB
# Every batch is one commit, every 50 ms at the most: a slower disk falls behind by itself.
SLOW_FSYNC_S = 0.05
# Measured on DuckDB with 3,000 series a minute at two decimals: 7; readings less alike compress less well.
BYTES_A_READING = 12
# SQLite's WAL wants shared memory and locks that hold, DuckDB the same of its file: over a network neither is certain.
NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "afs", "beegfs", "fuse.sshfs",
    "fuse.glusterfs", "fuse.cephfs", "fuse.rclone", "fuse.s3fs", "davfs",
})  # fmt: skip
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


async def examine_disk(settings: Settings) -> list[Finding]:
    folder = settings.data_dir.resolve()
    while not folder.exists():  # it is made at the first start; its file system is there already
        folder = folder.parent
    try:
        pause = await asyncio.to_thread(_fsync_seconds, folder)
    except OSError as error:
        return [
            fail("disk", f"{folder}: 不能写 cannot be written: {error}", "改正权限或 data_dir mend rights or data_dir")
        ]
    free = shutil.disk_usage(folder).free
    findings = [_disk(folder, free, pause)]
    findings += file_system(folder, _mounts())
    if free >= LITTLE_DISK:  # else told already
        findings += room(free, settings.journal.max_mb * MB)
        findings += kept(free + _size(settings.data_dir), settings.retention.raw, _town(settings))
    return findings


def _disk(folder: Path, free: int, pause: float) -> Finding:
    text = f"{folder}: 剩余 free {free // MB} MB; 落盘 fsync {pause * 1000:.1f} ms"
    if free < TOO_LITTLE_DISK:
        return fail("disk", text, "腾出空间 make room")
    if free < LITTLE_DISK:
        return warn("disk", text, "腾出空间 make room")
    if pause > SLOW_FSYNC_S:
        return warn("disk", text, "磁盘慢，积压会变多 a slow disk: expect a backlog; use an SSD")
    return ok("disk", text)


def file_system(folder: Path, mounts: str) -> list[Finding]:
    """`mounts` as /proc/self/mounts has them; nothing where the file system is one of a disk, or not known."""
    kind, deepest = "", -1
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        place = Path(fields[1].replace("\\040", " "))
        # Of two at one place the later is the one that is seen.
        if folder.is_relative_to(place) and len(place.parts) >= deepest:
            kind, deepest = fields[2], len(place.parts)
    if kind in NETWORK:
        far = f"{folder} 在网络文件系统上 is on a network file system ({kind})"
        unsure = "锁与落盘不可靠 locks and fsync may not hold"
        return [
            warn("disk.kind", f"{far}: {unsure}", "把 data_dir 放到本机磁盘 put data_dir on a disk of this machine")
        ]
    if kind in IN_MEMORY:
        gone = f"{folder} 在内存里，关机即失 is in memory ({kind}): gone when the machine stops"
        return [warn("disk.kind", gone, "把 data_dir 放到磁盘 put data_dir on a disk")]
    return []


def room(free: int, journal: int) -> list[Finding]:
    """While the readings store is away the journal may grow to its limit; both in bytes."""
    if free >= journal + LITTLE_DISK:
        return []
    small = f"剩余 {free // MB} MB，时序库停用时日志可写到 {journal // MB} MB"
    said = f"{small} free, and while the readings store is away the journal may take journal.max_mb"
    return [warn("disk.journal", said, "腾出空间，或调小 journal.max_mb make room, or lower journal.max_mb")]


def kept(room: int, span: int | None, town: Town | None) -> list[Finding]:
    """Whether what the devices of the town send in `span` microseconds (None: for ever) fits into so many bytes."""
    if town is None or not town.devices:
        return []
    a_second = sum(
        len(KINDS[device.kind].metrics) / (device.interval or KINDS[device.kind].interval_s)
        for device in town.devices.values()
    )
    a_day = a_second * DAY / SECOND * BYTES_A_READING
    days = room / a_day
    if span is None or days * DAY >= span:
        return []
    zh = f"{len(town.devices)} 台设备每天约写 {a_day / MB:.1f} MB，空间约够 {days:.0f} 天，应保存 {span / DAY:.0f} 天"
    said = f"{zh} the town's devices fill the disk in so many days, and retention.raw is longer"
    return [warn("disk.retention", said, "加磁盘，或调小 retention.raw a larger disk, or a shorter retention.raw")]


def _town(settings: Settings) -> Town | None:
    """None where there is none, or it has mistakes, which are told elsewhere."""
    try:
        return town_in(settings.town)
    except (OSError, UnicodeDecodeError, DocumentError):
        return None


def _size(folder: Path) -> int:
    """What the readings take already: it stands for readings that need no other room."""
    return sum(file.stat().st_size for file in folder.glob("readings*") if file.is_file())


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not on Linux


def _fsync_seconds(folder: Path) -> float:
    """Median of what one small commit waits for the disk."""
    probe = folder / f".doctor-{os.getpid()}"
    times: list[float] = []
    try:
        with probe.open("wb") as file:
            for _ in range(15):
                file.write(b"x" * 4096)
                file.flush()
                begun = wall()
                os.fsync(file.fileno())
                times.append((wall() - begun) / 1e6)
    finally:
        probe.unlink(missing_ok=True)
    return statistics.median(times)
