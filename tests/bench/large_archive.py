#!/usr/bin/env python3
"""Makes an archive of very many files at file://, from FORMAT.md alone: entries, rollups, and objects that have their
size and hold nothing. For measuring plans, which read no object; `large_archive.py FOLDER [FILES]`."""

import hashlib
import json
import os
import subprocess
import sys

UUID = "0d1a7e00-97a0-4000-8000-000000000001"
TRANSACTIONS = 100
ROLLED = 1000


def moment(second):
    days, second = divmod(second, 86400)
    return f"2026-{1 + days // 28:02}-{1 + days % 28:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.250000Z"


def entry(sequence, previous):
    first = (sequence - 1) * TRANSACTIONS + 1
    size = 1_000_000 + sequence % 977
    binlog = {
        "size": size,
        "events": 5 * TRANSACTIONS,
        "previous_gtids": f"{UUID}:1-{first - 1}" if first > 1 else "",
        "added_gtids": f"{UUID}:{first}-{first + TRANSACTIONS - 1}",
        "first_commit": moment(sequence * 10),
        "last_commit": moment(sequence * 10 + 9),
        "transactions": TRANSACTIONS,
        "anonymous_transactions": 0,
        "last_position": size,
        "end": {"rotate": {"next": f"binlog.{sequence + 1:06}"}},
        "in_use": False,
        "server_version": "9.7.4",
        "server_id": 97,
        "checksum_algorithm": "CRC32",
        "open_transaction": False,
        "damage": None,
        "obstacle": None,
    }
    stored = {
        "key": f"large/{UUID}/1/log/{sequence:010}.gtb",
        "size": size // 3,
        "crc32c": sequence,
        "index_sha256": hashlib.sha256(b"%d" % sequence).hexdigest(),
        "blocks": 1,
        "key_id": "file:4afabe88fc58ee72",
        "wrapped_key": "RWrkelX+Z33zrgFZ3bKvdonNgr872rPWJajcE6wj+uzNt0tJ15FNVIuHNppDqYakCmp8pNVlO6PEhXBl",
        "level": 3,
    }
    return {
        "version": 1,
        "cluster": "large",
        "server_uuid": UUID,
        "incarnation": 1,
        "sequence": sequence,
        "file_name": f"binlog.{sequence:06}",
        "sha256": hashlib.sha256(b"plain %d" % sequence).hexdigest(),
        "binlog": binlog,
        "object": stored,
        "base_backup": None,
        "previous": previous,
        "writer": "large_archive.py",
        "written_at": moment(sequence * 10 + 9),
    }


def main():
    root, files = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500_000
    source = os.path.join(root, "large", UUID, "1")
    for folder in ("log", "manifest", "rollup"):
        os.makedirs(os.path.join(source, folder))
    previous, rolled = None, []
    for sequence in range(1, files + 1):
        made = entry(sequence, previous)
        text = (json.dumps(made, indent=2) + "\n").encode()
        previous = {"sequence": sequence, "sha256": hashlib.sha256(text).hexdigest()}
        if rolled and sequence % ROLLED == 0:
            roll_up(source, sequence - ROLLED, rolled)
            rolled = []
        rolled.append(text)
        with open(os.path.join(source, "manifest", f"{sequence:010}.json"), "wb") as out:
            out.write(text)
        with open(os.path.join(source, "log", f"{sequence:010}.gtb"), "wb") as out:
            out.truncate(made["object"]["size"])


def roll_up(source, first, entries):
    """The frame must state its size and end with a checksum: the command does both for a file."""
    name = os.path.join(source, "rollup", f"{first:010}-{first + ROLLED - 1:010}.json")
    with open(name, "wb") as out:
        out.write(b"".join(entries))
    subprocess.run(["zstd", "-q", "--rm", "--check", "-3", name], check=True)


main()
