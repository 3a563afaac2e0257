#!/usr/bin/env python3
"""Reads one archive object by engine/FORMAT.md alone: gtb_decode.py KEY-FILE OBJECT IDENTITY > binlog

IDENTITY is <cluster>/<server_uuid>/<incarnation>/<sequence>/<file_name>. Nothing is written unless all is right.
"""
import base64, hashlib, json, struct, sys
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER = "cluster server_uuid incarnation sequence file_name cipher compression key_id wrapped_key".split()

def need(truth, what):
    if not truth: raise ValueError(what)

def crc32c(data, crc=0xFFFFFFFF):
    for byte in data:
        crc ^= byte
        for _ in range(8): crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

def read_key(path):  # §8.4, §8.3
    lines = [line.strip() for line in open(path, encoding="utf-8")]
    [line] = [line for line in lines if line and not line.startswith("#")]
    key = base64.b64decode(line.removeprefix("gtide-key-1:"), validate=True)
    return "file:" + hashlib.sha256(b"gtide-key-id-1:" + key).hexdigest()[:16], key

def decode(obj, key_id, kek, identity):
    magic, version, reserved, length = struct.unpack_from("<8sHHI", obj)  # §3.1
    need(magic == b"\x89GTB\r\n\x1a\n" and (version, reserved) == (1, 0) and length <= 16384, "prefix")
    raw, at = obj[16 : 16 + length], 16 + length
    header = json.loads(raw)  # §3.2
    canonical = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    need(canonical == raw and list(header) == HEADER, "header")
    need((header["cipher"], header["compression"]) == ("AES-256-GCM", "zstd"), "cipher or compression")
    need("/".join(str(header[name]) for name in HEADER[:5]) == identity, "identity")
    need(header["key_id"] == key_id, f"the object needs key {header['key_id']}")
    wrapped = base64.b64decode(header["wrapped_key"], validate=True)  # §8.2
    aad = "\n".join(["gtide-data-key-1", key_id, identity]).encode()
    aead, digest = AESGCM(AESGCM(kek).decrypt(wrapped[:12], wrapped[12:], aad)), hashlib.sha256(obj[:at]).digest()

    def part(domain, number, at, max_sealed, max_plain, bound):  # §4, §5
        (word,) = struct.unpack_from("<I", obj, at)
        size, last = word & 0x7FFFFFFF, word >> 31
        need(16 < size <= max_sealed and at + 4 + size <= len(obj), "length")
        nonce = struct.pack(">IQ", domain, number)
        frame = aead.decrypt(nonce, obj[at + 4 : at + 4 + size], digest + nonce + bound(last))
        need(frame[:4] == b"\x28\xb5\x2f\xfd" and 0 <= zstandard.frame_content_size(frame) <= max_plain, "frame")
        zstd = zstandard.ZstdDecompressor().decompressobj()
        plain = zstd.decompress(frame)
        need(zstd.eof and not zstd.unused_data and len(plain) == zstandard.frame_content_size(frame), "frame")
        return plain, 4 + size, last

    blocks, sizes, last = [], [], 0
    while not last:
        plain, size, last = part(0, len(blocks), at, 4210704, 4194304, lambda last: bytes([last]))
        need((plain or (last and not blocks)) and len(blocks) < 262144, "empty or too many blocks")  # §5.3
        blocks.append(plain); sizes.append((len(plain), size)); at += size
    count = struct.pack(">Q", len(blocks))
    index, size, flag = part(1, 0, at, 134742032, 134217728, lambda _: count)  # §6
    index, file = json.loads(index), b"".join(blocks)
    need(not flag and [(b["plain_size"], b["object_size"]) for b in index["blocks"]] == sizes, "index")
    need((index["plain_size"], index["plain_sha256"]) == (len(file), hashlib.sha256(file).hexdigest()), "digest")
    trailer = struct.pack("<QQQHH", at, size, len(blocks), 1, 0)  # §7
    trailer += struct.pack("<I", crc32c(trailer)) + b"\n\x1a\n\rBTG\x89"
    need(obj[at + size :] == trailer, "trailer")
    return file

if __name__ == "__main__":
    sys.stdout.buffer.write(decode(open(sys.argv[2], "rb").read(), *read_key(sys.argv[1]), sys.argv[3]))
