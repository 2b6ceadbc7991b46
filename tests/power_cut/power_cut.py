"""What was answered 200 survives the loss of power, and a drain that it interrupts deletes exactly the rule's leads.

usage: power_cut.py BINARY ROUNDS. kill -9 can't show this: what the kernel holds outlives the process. Here the file
system itself stops, without a flush of its journal. That the stand can see a loss is shown by a control: a writer with
`synchronous=NORMAL` must lose rows that it was told are committed.
"""

import os
import subprocess
import sys

from stand import Clients, Disk, Stand, main, moment, until

DISK_MEBIBYTES = 128
# Events of leads that the sandbox doesn't have: what they select is nothing, that they are stored is the point.
FIRST_STRANGER = 1_000_000
DRAIN_CUTS = 3
# The service keeps to 2 requests a second and remembers over restarts, but each new database here knows nothing of the
# earlier ones' requests: the portal allows more than that.
PORTAL = ("--delete-seconds", "0.01", "--sleep-scale", "1", "--requests-per-second", "50", "--burst", "500")

CONTROL = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=NORMAL")
db.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY)")
number = int(sys.argv[2])
while True:
    db.execute("INSERT INTO rows VALUES (?)", (number,))
    print(number, flush=True)
    number += 1
"""


def control(disk, rounds):
    """How many rows a writer without fsync loses of those it called committed."""
    path = os.path.join(disk.path, "control.db")
    told, number = set(), 1
    for _ in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", CONTROL, path, str(number)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        moment(0.3, 0.8)
        disk.cut_power()
        writer.kill()
        told |= {int(line) for line in writer.communicate()[0].split() if line.isdigit()}
        number = max(told, default=0) + 1
        disk.unmount()
        disk.mount()
    import sqlite3

    db = sqlite3.connect(path)
    try:
        kept = {row for (row,) in db.execute("SELECT id FROM rows")}
    except sqlite3.OperationalError:
        # Not even the table is there.
        kept = set()
    db.close()
    return len(told), len(told - kept)


def intake(stand, disk, rounds):
    """Power cuts while events come in; how many were acknowledged, and how many of these are lost."""
    told, lost, first = 0, 0, FIRST_STRANGER
    acknowledged = set()
    for number in range(rounds):
        if number % 3 == 0:
            # A new database: its creation must survive too.
            stand.db, acknowledged = os.path.join(disk.path, f"janitor-{number}.db"), set()
        stand.start()
        clients = Clients(stand.public, first)
        moment(0.1, 1.5)
        # What is answered after this line may rest on a sync that was on its way when the power went: the emulation lets
        # such a one succeed now and then (8 of 227 cuts, by a bare write and fdatasync), which a disk would not.
        round_told = clients.so_far()
        disk.cut_power()
        stand.service.kill()
        clients.end()
        first = clients.next
        acknowledged |= round_told
        told += len(round_told)
        disk.unmount()
        disk.mount()
        stand.start()
        stored, sound = stand.stored()
        assert sound == "ok", sound
        missing = acknowledged - stored
        if missing:
            fresh = "a new" if number % 3 == 0 else "an older"
            where = f"{len(missing & round_told)} of this round's {len(round_told)}"
            print(f"round {number + 1}, {fresh} database: {sorted(missing)} are missing, {where}; stored up to {max(stored, default=0)}")
        lost += len(missing)
        # Counted once.
        acknowledged -= missing
        assert stand.service.terminate() == 0, stand.service.log()
    return told, lost


def drain(stand, disk):
    """Power cuts during a drain: afterwards the rule's leads are gone, no other, and every job is settled."""
    stand.db = os.path.join(disk.path, "drain.db")
    junk = stand.junk()
    every = len(junk) // (DRAIN_CUTS + 2)
    stand.start()
    code, text = stand.command("run", "junk")
    assert code == 0, text
    for cut in range(DRAIN_CUTS):
        until("so many deletions", lambda: len(stand.deletions()) > cut * every)
        moment(0, 0.5)
        disk.cut_power()
        stand.service.kill()
        disk.unmount()
        disk.mount()
        stand.start()

    def settled():
        jobs = stand.status()["jobs"]
        return jobs["waiting"] == 0 and jobs["running"] == 0

    until("the end of all jobs", settled)
    deleted = [deletion["id"] for deletion in stand.deletions()]
    assert set(deleted) == junk, (len(set(deleted) - junk), len(junk - set(deleted)))
    assert len(deleted) == len(junk), "a lead was deleted twice"
    jobs = stand.status()["jobs"]
    assert jobs["deleted"] == len(junk), jobs
    assert stand.service.terminate() == 0, stand.service.log()
    return len(junk)


def run(binary, work):
    rounds = int(sys.argv[2])
    disk = Disk(work, DISK_MEBIBYTES)
    stand = None
    try:
        told, lost = control(disk, 3)
        print(f"control, synchronous=NORMAL: {lost} of {told} rows called committed are lost after 3 power cuts")
        assert lost > 0, "this stand can't show a loss, so it proves nothing"
        stand = Stand(binary, work, disk, 1500, *PORTAL)
        told, lost = intake(stand, disk, rounds)
        print(f"intake: {lost} of {told} events answered 200 are lost after {rounds} power cuts")
        assert told > 0
        assert lost == 0
        leads = drain(stand, disk)
        print(f"drain: exactly the rule's {leads} leads are deleted after {DRAIN_CUTS} power cuts, every job is settled")
    finally:
        if stand:
            stand.close()
        disk.unmount()


if __name__ == "__main__":
    main(run)
