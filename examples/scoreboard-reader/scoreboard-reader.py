#!/usr/bin/env python3
"""Reads the scoreboard of a Brood daemon, as docs/SCOREBOARD.md describes it, with nothing but the standard library.

    scoreboard-reader.py [--json] [-n EVENTS] FILE|DIR

FILE is a scoreboard, DIR a daemon's run directory. It prints the daemon, a line for each child, and the last events, ten
unless -n says otherwise; with --json all that the file says. Exit status: 0 it was read, 1 it is no scoreboard that this
program understands or cannot be read, 2 the command line is wrong.
"""

import argparse
import datetime
import json
import os
import stat
import struct
import sys
import time

MAGIC = b"BROODSCB"
VERSION = 3
HEADER_SIZE = 4096
SLOT_SIZE = 512
EVENT_SIZE = 512
EVENTS = 512
MAX_SLOTS = 16384
MAX_PID = 4194304

TRIES = 100  # reads of a header or slot until it is given up
LOOKS = 10  # reads of the ring until nothing is missing

STARTING, SERVING, DRAINING, KILLING = 1, 2, 3, 4  # phases
STATES = {
    ord("S"): "starting", ord("_"): "idle", ord("R"): "reading", ord("W"): "working", ord("C"): "cancelling",
    ord("P"): "paused", ord("G"): "draining", ord("."): "empty",
}
LETTERS = {word: chr(letter) for letter, word in STATES.items()}
CHILD_KINDS = {0: "serve", 1: "dequeue"}
EVENT_KINDS = (
    "note start serving spawn ready drain evict kill exit died failed gone overtime revoke reload settled reloaded unchanged"
    " reload-failed upgrade upgraded upgrade-failed scale grow reopen operator degraded recovered stop drained log-level"
).split()


class Refused(Exception):
    """The file is no scoreboard that this program understands."""


def u32(raw, at):
    return struct.unpack_from("<I", raw, at)[0]


def u64(raw, at):
    return struct.unpack_from("<Q", raw, at)[0]


def text(raw, at, size):
    """A text ends with its first NUL byte. A stranger may have chosen it: its bytes need not be UTF-8."""
    return raw[at:at + size].split(b"\0", 1)[0].decode("utf-8", "replace")


def process(number):
    """No process has a number above MAX_PID, and who sends signals must not be given one."""
    return number if number <= MAX_PID else 0


def moment(ns):
    """Nanoseconds since 1970 as RFC 3339 in UTC; None: never."""
    if ns == 0:
        return None
    t = datetime.datetime.fromtimestamp(ns // 10**9, datetime.timezone.utc)
    return "%s.%09dZ" % (t.strftime("%Y-%m-%dT%H:%M:%S"), ns % 10**9)


def shown(s):
    """A text as it can be shown: nothing in it moves a cursor or begins a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in s)


def read_at(fd, at, size):
    raw = b""
    while len(raw) < size:
        part = os.pread(fd, size - len(raw), at + len(raw))
        if not part:
            raise Refused("cut short: %d bytes at %d are missing" % (size - len(raw), at))
        raw += part
    return raw


def read_twice(fd, at, size, whole=lambda raw: True):
    """Reads until two reads in a row are equal and whole. Returns them, and whether they have been."""
    last = read_at(fd, at, size)
    for _ in range(TRIES):
        raw = read_at(fd, at, size)
        if raw == last and whole(raw):
            return raw, True
        last = raw
    return last, False


def check(head, file_size):
    """Returns the number of slots, or refuses the file."""
    if head[0:8] != MAGIC:
        raise Refused("no scoreboard: its magic is %r" % head[0:8])
    if u32(head, 8) != VERSION:
        raise Refused("version %d; this program reads version %d" % (u32(head, 8), VERSION))
    sizes = (u32(head, 12), u32(head, 16), u32(head, 88), u32(head, 92))
    if sizes != (HEADER_SIZE, SLOT_SIZE, EVENT_SIZE, EVENTS):
        raise Refused("sizes of version %d are not %r" % (VERSION, sizes))
    slots = u32(head, 20)
    if not 1 <= slots <= MAX_SLOTS or file_size < HEADER_SIZE + slots * SLOT_SIZE + EVENTS * EVENT_SIZE:
        raise Refused("%d slots in %d bytes" % (slots, file_size))
    return slots


def decode_header(h):
    return {
        "daemon": {
            "name": text(h, 768, 128), "pid": process(u64(h, 24)), "start_ticks": u64(h, 32), "boot_id": text(h, 40, 40),
            "program": text(h, 896, 512), "pid_file": text(h, 1920, 256), "error_log": text(h, 2176, 256),
        },
        "status": {
            "state": text(h, 224, 24), "generation": u64(h, 136), "rolling": u64(h, 144), "want": u64(h, 152),
            "born": u64(h, 160), "died": u64(h, 168), "killed": u64(h, 176), "lost": u64(h, 184), "done": u64(h, 192),
            "skipped": u64(h, 216), "refused": u64(h, 248), "reload_at": moment(u64(h, 200)), "reload_ok": u64(h, 208) == 1,
            "reload": text(h, 256, 384), "trouble": text(h, 640, 128),
        },
        "created": moment(u64(h, 80)),
        "updated": moment(u64(h, 128)),
        "listen": text(h, 1408, 512),
        "slots": u32(h, 20),
    }


def decode_slot(number, s, whole):
    """Returns the child in a slot; None: it is free."""
    phase, state = u64(s, 24), STATES.get(u64(s, 128), "unknown")
    if phase == 0:
        return None
    if phase == STARTING:
        state = "starting"
    elif phase in (DRAINING, KILLING) and state != "cancelling":
        state = "draining"
    child = {
        "slot": number, "pid": process(u64(s, 0)), "kind": CHILD_KINDS.get(u64(s, 40), "unknown"), "generation": u64(s, 8),
        "state": state, "since": moment(u64(s, 136)), "born": moment(u64(s, 16)), "cause": text(s, 48, 80),
        "done": u64(s, 152), "running": u64(s, 160), "skipped": u64(s, 168), "refused": u64(s, 176),
        "revoked": u64(s, 32), "torn": not whole,
        "job": 0, "started": None, "left": 0, "client": "", "inode": 0, "text": "",
    }
    if whole and u64(s, 200) != 0:
        limit = u64(s, 224)
        child.update({
            "job": u64(s, 200), "started": moment(u64(s, 208)), "inode": u64(s, 216), "client": text(s, 232, 88),
            "text": text(s, 320, 192),
            "left": limit - time.clock_gettime_ns(time.CLOCK_MONOTONIC) if limit else 0,
        })
    return child


def crc64_table():
    table = []
    for c in range(256):
        for _ in range(8):
            c = c >> 1 ^ (0xC96C5795D7870F42 if c & 1 else 0)
        table.append(c)
    return table


CRC64 = crc64_table()


def crc64(data):
    """CRC-64 of xz: the polynomial of ECMA-182, reflected, all ones at the start and inverted at the end."""
    crc = 2**64 - 1
    for b in data:
        crc = CRC64[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ (2**64 - 1)


def decode_event(r):
    """Returns the event of a record; None: there is none, or it is torn or damaged."""
    if u64(r, 0) == 0 or u64(r, 8) != crc64(r[0:8] + r[16:]):
        return None
    kind, slot, user = u32(r, 24), u32(r, 28), u32(r, 68)
    return {
        "seq": u64(r, 0), "time": moment(u64(r, 16)), "kind": EVENT_KINDS[kind] if kind < len(EVENT_KINDS) else "unknown",
        "pid": process(u64(r, 32)), "slot": slot - 1 if slot <= MAX_SLOTS else -1, "generation": u64(r, 40), "job": u64(r, 48),
        "done": u64(r, 56), "operator": {"uid": user - 1, "pid": process(u32(r, 64))} if user else None,
        "text": text(r, 72, 440),
    }


def read_events(fd, at):
    """Returns the events that the ring has, oldest first."""
    found, known = {}, {}
    for _ in range(LOOKS):
        ring = read_at(fd, at, EVENTS * EVENT_SIZE)
        for i in range(EVENTS):
            raw = ring[i * EVENT_SIZE:(i + 1) * EVENT_SIZE]
            if known.get(i) == raw:
                continue
            known[i] = raw
            event = decode_event(raw)
            if event:
                found[event["seq"]] = event
        if not found:
            break
        last = max(found)
        if all(n in found for n in range(max(1, last - EVENTS + 2), last)):  # the oldest may be just being replaced
            break
    return [found[n] for n in sorted(found)]


def alive(daemon):
    """Tells whether the parent is there: process id, start and boot together name one process."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            if f.read().strip() != daemon["boot_id"]:
                return False
        with open("/proc/%d/stat" % daemon["pid"], "rb") as f:
            fields = f.read().rpartition(b")")[2].split()  # the name before may hold anything; the next is field 3
    except OSError:
        return False
    return int(fields[22 - 3]) == daemon["start_ticks"] and fields[0] not in (b"Z", b"X")


def read(path):
    """Returns all that a scoreboard says."""
    if os.path.isdir(path):
        path = os.path.join(path, "scoreboard")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise Refused("no regular file")
        head, _ = read_twice(fd, 0, HEADER_SIZE)
        slots = check(head, st.st_size)
        board = decode_header(head)
        board["running"] = alive(board["daemon"])
        board["children"] = []
        for n in range(slots):
            raw, whole = read_twice(fd, HEADER_SIZE + n * SLOT_SIZE, SLOT_SIZE, lambda raw: u64(raw, 192) % 2 == 0)
            child = decode_slot(n, raw, whole)
            if child:
                board["children"].append(child)
        board["events"] = read_events(fd, HEADER_SIZE + slots * SLOT_SIZE)
        return board
    finally:
        os.close(fd)


def show(board, count):
    daemon, status = board["daemon"], board["status"]
    print("%s: %s, generation %d, pid %d, since %s, listening on %s" % (
        shown(daemon["name"]), shown(status["state"]) if board["running"] else "dead", status["generation"], daemon["pid"],
        board["created"], shown(board["listen"]) or "-"))
    print("children %d of %d wanted, %d born, %d died, %d killed; clients lost %d" % (
        len(board["children"]), status["want"], status["born"], status["died"], status["killed"], status["lost"]))
    for c in board["children"]:
        job = "unknown: stopped while writing" if c["torn"] else "-"
        if c["job"]:
            job = "job %d for %s: %s" % (c["job"], shown(c["client"]) or "-", shown(c["text"]))
        print("slot %d  pid %d  %s  gen %d  %s %s since %s  done %d  %s  (%s)" % (
            c["slot"], c["pid"], c["kind"], c["generation"], LETTERS.get(c["state"], "?"), c["state"], c["since"], c["done"],
            job, shown(c["cause"])))
    for e in board["events"][-count:] if count else []:
        who = ["%s=%d" % (k, e[k]) for k in ("pid", "generation", "job", "done") if e[k]]
        if e["slot"] >= 0:
            who.insert(0, "slot=%d" % e["slot"])
        if e["operator"]:
            who.append("uid=%d" % e["operator"]["uid"])
        print("  ".join(["%d %s" % (e["seq"], e["time"]), "%-14s" % e["kind"], " ".join(who), shown(e["text"])]).rstrip())


def main():
    parser = argparse.ArgumentParser(description="Shows what the scoreboard of a Brood daemon says.")
    parser.add_argument("path", help="a scoreboard, or a daemon's run directory")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument("-n", type=int, default=10, help="number of events to show, the last ones")
    args = parser.parse_args()
    try:
        board = read(args.path)
    except (OSError, Refused) as e:
        print("scoreboard-reader: %s: %s" % (args.path, e), file=sys.stderr)
        return 1
    sys.stdout.reconfigure(errors="backslashreplace")
    if args.json:
        json.dump(board, sys.stdout, indent=2)
        print()
    else:
        show(board, max(args.n, 0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
