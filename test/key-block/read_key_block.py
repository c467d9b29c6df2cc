"""Reads a key block of version B or D: a second program, by other means than the library's. Python and the openssl command.

    python3 read_key_block.py < '{"kbpk": hex, "block": text}'   ->   '{"usage", "mode", "exportability", "key"}', or exit 1

Made from the description in ANSI X9.143 (key derivation binding); AES and TDEA, block by block, are openssl's.
"""
import json
import subprocess
import sys


def ecb(key, data, decrypt=False):
    name = {16: "aes-128-ecb", 24: "aes-192-ecb", 32: "aes-256-ecb"}[len(key)]
    return run(name, key, data, decrypt)


def tdea(key, data, decrypt=False):
    return run("des-ede3", (key + key[:8])[:24], data, decrypt)


def run(name, key, data, decrypt):
    call = ["openssl", "enc", "-d" if decrypt else "-e", "-" + name, "-K", key.hex(), "-nopad"]
    return subprocess.run(call, input=data, check=True, stdout=subprocess.PIPE).stdout


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def double(block):
    size = len(block)
    value = int.from_bytes(block, "big") << 1
    if value >> (8 * size):
        value = (value ^ (0x87 if size == 16 else 0x1B)) & ((1 << (8 * size)) - 1)
    return value.to_bytes(size, "big")


def cmac(cipher, key, size, message):
    subkey = double(cipher(key, bytes(size)))
    if not message or len(message) % size:
        subkey = double(subkey)
        message += b"\x80"
        message += bytes(-len(message) % size)
    blocks = [message[i : i + size] for i in range(0, len(message), size)]
    state = bytes(size)
    for block in blocks[:-1]:
        state = cipher(key, xor(state, block))
    return cipher(key, xor(xor(state, blocks[-1]), subkey))


def derive(cipher, kbpk, size, use, code):
    bits = (8 * len(kbpk)).to_bytes(2, "big")
    parts = [
        cmac(cipher, kbpk, size, bytes([i]) + use.to_bytes(2, "big") + b"\0" + code.to_bytes(2, "big") + bits)
        for i in range(1, 5)
    ]
    return b"".join(parts)[: len(kbpk)]


def read(kbpk, block):
    assert int(block[1:5]) == len(block)
    aes = block[0] == "D"
    assert aes or block[0] == "B"
    cipher, size = (ecb, 16) if aes else (tdea, 8)
    code = {16: 2, 24: 3, 32: 4}[len(kbpk)] if aes else {16: 0, 24: 1}[len(kbpk)]
    at = 16
    for _ in range(int(block[12:14])):
        length = int(block[at + 2 : at + 4], 16)
        if length == 0:
            digits = int(block[at + 4 : at + 6], 16)
            length = int(block[at + 6 : at + 6 + digits], 16)
        at += length
    mac = bytes.fromhex(block[-2 * size :])
    body = bytes.fromhex(block[at : -2 * size])
    kbek, kbak = (derive(cipher, kbpk, size, use, code) for use in (0, 1))
    clear = xor(cipher(kbek, body, True), mac + body)
    assert cmac(cipher, kbak, size, block[:at].encode() + clear) == mac, "MAC"
    length = int.from_bytes(clear[:2], "big") // 8
    return {
        "usage": block[5:7],
        "algorithm": block[7],
        "mode": block[8],
        "exportability": block[11],
        "key": clear[2 : 2 + length].hex().upper(),
    }


given = json.load(sys.stdin)
print(json.dumps(read(bytes.fromhex(given["kbpk"]), given["block"])))
