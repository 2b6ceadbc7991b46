"""A disk that fills up under the service, and is given room again: what stops, what goes on, and that nothing is lost.

usage: full_disk.py BINARY. First the disk is nearly full: nothing is claimed, events are still stored. Then it is full
to the last block: events are answered 503 and a gap is recorded, pages and commands answer. Then there is room again:
everything goes on by itself.
"""

import contextlib
import http.client
import os
import sqlite3
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "power_cut"))
from stand import Disk, Stand, main, post, until  # noqa: E402

MIB = 1024 * 1024
DISK_MEBIBYTES = 128
FIRST_STRANGER = 1_000_000
REFUSED = 200


class Filler:
    """Another program's file."""

    def __init__(self, disk):
        self.folder, self.path = disk.path, os.path.join(disk.path, "filler")

    def free(self):
        space = os.statvfs(self.folder)
        return space.f_bavail * space.f_frsize

    def grow(self, leave):
        """Takes all but so many bytes."""
        with open(self.path, "ab") as file:
            more = self.free() - leave
            if more > 0:
                os.posix_fallocate(file.fileno(), file.tell(), more)

    def to_the_last_block(self):
        """The ballast included, which the service gives up meanwhile."""
        with open(self.path, "ab", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))

    def shrink(self):
        os.remove(self.path)


def gaps(stand):
    with contextlib.closing(sqlite3.connect(stand.db)) as db:
        return [reason for (reason,) in db.execute("SELECT reason FROM gaps")]


def send(stand, lead, event="ONCRMLEADUPDATE"):
    connection = http.client.HTTPConnection(stand.public, timeout=30)
    try:
        return post(connection, lead, event)
    finally:
        connection.close()


def readiness(stand, what):
    def look():
        status, body = stand.get("/readyz")
        return body if what in body and status == (200 if what == "ready\n" else 503) else None

    return until(f"/readyz: {what}", look, 30)


def run(binary, work):
    disk = Disk(work, DISK_MEBIBYTES)
    stand = None
    try:
        stand = Stand(binary, work, disk, 600)
        filler, acknowledged, lead = Filler(disk), set(), FIRST_STRANGER
        stand.start()
        junk = stand.junk()
        until("the ballast", lambda: os.path.exists(stand.db + ".ballast"))
        assert readiness(stand, "ready\n")

        # Nearly full: no new work, but events are stored.
        filler.grow(24 * MIB)
        readiness(stand, "the disk is nearly full: nothing is claimed")
        code, text = stand.command("run", "junk")
        assert code == 0, text
        for _ in range(50):
            assert send(stand, lead) == 200
            acknowledged.add(lead)
            lead += 1
        assert stand.deletions() == [], "nothing is claimed"
        jobs = stand.status()["jobs"]
        assert (jobs["waiting"], jobs["running"]) == (len(junk), 0), jobs
        code, text = stand.command("status")
        assert "DISK: the disk is nearly full" in text, text
        print("nearly full: events are stored, nothing is claimed")

        # Full to the last block.
        filler.grow(0)
        readiness(stand, "the disk is full")
        filler.to_the_last_block()
        refused = 0
        for _ in range(REFUSED):
            status = send(stand, lead)
            assert status in (200, 503), status
            if status == 200:
                acknowledged.add(lead)
            refused += status == 503
            lead += 1
        assert refused > 0
        assert stand.get_public("/healthz")[0] == 200
        for page in ("/", "/metrics"):
            assert stand.get(page)[0] == 200, page
        assert "the disk is full" in stand.get("/")[1]
        code, text = stand.command("status")
        assert code == 0 and "DISK: the disk is full" in text, text
        assert stand.command("jobs")[0] == 0
        assert stand.deletions() == []
        print(f"full: {refused} of {REFUSED} events got 503; pages, status and jobs answer")

        # Room again: nobody restarts anything.
        filler.shrink()
        readiness(stand, "ready\n")
        until("the gap, or its sweep", lambda: gaps(stand) or "event" in stand.command("runs", "--json")[1])
        assert len(gaps(stand)) < refused / 2, "many refused events are few gaps, or they would fill the disk"
        until("the deletions", lambda: len(stand.deletions()) == len(junk))
        assert {deletion["id"] for deletion in stand.deletions()} == junk
        until("their ends", lambda: stand.status()["jobs"]["deleted"] == len(junk))
        assert send(stand, lead) == 200
        acknowledged.add(lead)
        assert os.path.exists(stand.db + ".ballast")
        assert stand.service.terminate() == 0, stand.service.log()
        stored, sound = stand.stored()
        assert sound == "ok", sound
        lost = acknowledged - stored
        assert not lost, lost
        print(f"room again: all {len(junk)} deletions done, 0 of {len(acknowledged)} acknowledged events lost")
    finally:
        if stand:
            stand.close()
        disk.unmount()


if __name__ == "__main__":
    main(run)
