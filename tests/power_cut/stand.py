"""The stand of the power cut and the full disk: an ext4 in a loop file, a sandbox portal, the real `serve`, a client.

Only processes started here are ended, by their ids; whatever happens the file system is unmounted.
"""

import contextlib
import fcntl
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

# _IOR('X', 125, __u32), linux/ext4.h
EXT4_IOC_SHUTDOWN = 0x8004587D
# The journal is not flushed: what no fsync has brought to the disk is gone, as when the power fails.
NO_LOG_FLUSH = 2
TOKEN = "token-of-the-stand"
# Longer than anything takes that is waited for, on a busy machine; a lost answer settles 90 s after it was sent.
PATIENCE = 180.0

RULES = """version: 1
timezone: Europe/Berlin
defaults: { limits: { max_matches: 100000, max_percent: 100 } }
rules:
  - name: junk
    description: Everything in the stage JUNK
    events: [ONCRMLEADADD]
    schedule: "15 3 * * *"
    match: { stageId: JUNK }
    mode: delete
"""


class Impossible(Exception):
    """This machine doesn't allow it: no root, no loop device, no mkfs.ext4."""


def until(what, look, patience=PATIENCE):
    """Waits until `look` returns something."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience:.0f} s for: {what}")


class Disk:
    """An ext4 of its own, in a loop file."""

    def __init__(self, work, mebibytes):
        self.image = os.path.join(work, "disk.img")
        self.path = os.path.join(work, "disk")
        os.mkdir(self.path)
        with open(self.image, "wb") as file:
            file.truncate(mebibytes * 1024 * 1024)
        self.mounted = False
        try:
            self._call("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
            self.mount()
        except (OSError, subprocess.CalledProcessError) as error:
            text = getattr(error, "stderr", None) or str(error)
            raise Impossible(f"no ext4 can be made and mounted in a loop file: {text.strip()}") from error

    @staticmethod
    def _call(*words):
        subprocess.run(words, check=True, capture_output=True, text=True)

    def mount(self):
        self._call("mount", "-o", "loop", self.image, self.path)
        self.mounted = True

    def unmount(self):
        def gone():
            done = subprocess.run(["umount", self.path], capture_output=True, check=False)
            return done.returncode == 0

        if self.mounted:
            until("the unmounting", gone, 30)
            self.mounted = False

    def cut_power(self):
        """From this moment on nothing reaches the disk any more."""
        file = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(file, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(file)


class Process:
    """A process of ours with its log; killed when the stand is left."""

    def __init__(self, words, variables, log):
        self.log_path = log
        environment = {"PATH": os.environ.get("PATH", ""), **variables}
        self.from_byte = os.path.getsize(log) if os.path.exists(log) else 0
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def log(self):
        with open(self.log_path, "rb") as file:
            file.seek(self.from_byte)
            return file.read().decode(errors="replace")

    def after(self, text):
        """The word that follows a text in the log."""

        def look():
            for line in self.log().splitlines():
                if text in line:
                    return line.split(text, 1)[1].split()[0]
            if self.child.poll() is not None:
                raise AssertionError(f"ended before `{text}`:\n{self.log()}")
            return None

        return until(text, look)

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()

    def terminate(self):
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(60)


class Stand:
    """A sandbox with leads, and a service whose database is on the disk."""

    def __init__(self, binary, work, disk, leads, *sandbox):
        self.binary, self.work, self.disk = binary, work, disk
        self.rules = os.path.join(work, "rules.yaml")
        with open(self.rules, "w", encoding="utf-8") as file:
            file.write(RULES)
        words = [binary, "sandbox", "--listen", "127.0.0.1:0", "--leads", str(leads), "--seed", "7", *sandbox]
        self.sandbox = Process(words, {}, os.path.join(work, "sandbox.log"))
        self.webhook = self.sandbox.after("webhook: ")
        self.portal = self.webhook.split("/rest/")[0]
        self.db = os.path.join(disk.path, "janitor.db")
        self.service = None

    def variables(self):
        return {
            "B24_WEBHOOK_URL": self.webhook,
            "B24_APPLICATION_TOKEN": TOKEN,
            "JANITOR_RULES": self.rules,
            "JANITOR_DB": self.db,
        }

    def start(self):
        """Starts the service and waits until it is ready."""
        words = [self.binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        log = os.path.join(self.work, "service.log")
        self.service = Process(words, {**self.variables(), "NO_COLOR": "1"}, log)
        self.service.after(" ready ")
        self.public = self.service.after('listener="public" address=')
        self.admin = self.service.after('listener="admin" address=')

    def command(self, *words):
        """A command beside the service: its exit status and what it printed."""
        done = subprocess.run(
            [self.binary, *words], env=self.variables(), capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        return done.returncode, done.stdout + done.stderr

    def status(self):
        code, text = self.command("status", "--json")
        assert code == 0, text
        return json.loads(text)

    def junk(self):
        """The ids of the leads that the rule selects, by the sandbox."""
        return set(self.get_json(f"{self.portal}/sandbox/leads?stage=JUNK")["ids"])

    def deletions(self):
        return self.get_json(f"{self.portal}/sandbox/stats")["deletions"]

    @staticmethod
    def get_json(url):
        with urllib.request.urlopen(url, timeout=30) as reply:
            return json.load(reply)

    def get(self, path):
        """Status and body of a page of the admin listener."""
        return self._get(self.admin, path)

    def get_public(self, path):
        return self._get(self.public, path)

    @staticmethod
    def _get(address, path):
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def stored(self):
        """The leads of the events in the database, and what SQLite says of the file."""
        with contextlib.closing(sqlite3.connect(self.db)) as db:
            (sound,) = db.execute("PRAGMA integrity_check").fetchone()
            leads = {lead for (lead,) in db.execute("SELECT lead_id FROM events")}
        return leads, sound

    def close(self):
        for process in (self.service, self.sandbox):
            if process:
                process.kill()


class Clients:
    """Connections that send one event after another, each of a lead of its own, and remember what was answered."""

    def __init__(self, address, first, count=16):
        self.address, self.next, self.lock = address, first, threading.Lock()
        self.acknowledged, self.refused, self.stop = set(), 0, threading.Event()
        self.threads = [threading.Thread(target=self._send, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def _send(self):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        while not self.stop.is_set():
            with self.lock:
                lead, self.next = self.next, self.next + 1
            try:
                status = post(connection, lead)
            except (OSError, http.client.HTTPException):
                # The service was killed, or its disk is gone.
                connection.close()
                time.sleep(0.01)
                continue
            with self.lock:
                if status == 200:
                    self.acknowledged.add(lead)
                else:
                    self.refused += 1

    def so_far(self):
        """What was answered 200 until now."""
        with self.lock:
            return set(self.acknowledged)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        return self.acknowledged


def post(connection, lead, event="ONCRMLEADADD"):
    """Sends an event as the portal does; the status of the answer."""
    body = f"event={event}&data%5BFIELDS%5D%5BID%5D={lead}&auth%5Bapplication_token%5D={TOKEN}"
    connection.request(
        "POST", "/bitrix24/events", body, {"Content-Type": "application/x-www-form-urlencoded"}
    )
    reply = connection.getresponse()
    reply.read()
    return reply.status


def main(run):
    """Runs `run(binary, work)` in a folder of its own; says why where this machine doesn't allow it."""
    binary = os.path.abspath(sys.argv[1])
    work = tempfile.mkdtemp(prefix="janitor-stand-")
    try:
        run(binary, work)
    except Impossible as why:
        print(f"NOTICE: skipped: {why}")
    except BaseException:
        for name in ("service.log", "sandbox.log"):
            path = os.path.join(work, name)
            if os.path.exists(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    print(f"--- the end of {name}\n" + "".join(file.readlines()[-40:]), file=sys.stderr)
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def moment(shortest, longest):
    """Waits for a random time."""
    time.sleep(random.uniform(shortest, longest))
