#!/usr/bin/env python3
"""Verifies vectors/corpus without a line of issuer-pin-crypto: Python's standard library, and OpenSSL for the ciphers
(its libcrypto where Python finds it, else its command).

    python3 test/corpus/verify.py vectors/corpus

Prints one JSON object: how many cases each file has, and what was wrong. Ends with 1 if something was.
"""
import json
import subprocess
import sys
from ctypes import CDLL, byref, c_int, c_void_p, create_string_buffer
from ctypes.util import find_library
from pathlib import Path


class Refused(Exception):
    """A case that an implementation must refuse."""


def library():
    """OpenSSL's libcrypto, which the command of its name is made of: a process for each of thousands of blocks takes 5 ms."""
    for name in ('libcrypto.so.3', find_library('crypto')):
        try:
            found = CDLL(name) if name else None
        except OSError:
            continue
        if found is not None and hasattr(found, 'EVP_CIPHER_fetch'):
            for function in ('EVP_CIPHER_fetch', 'EVP_CIPHER_CTX_new'):
                getattr(found, function).restype = c_void_p
            return found
    return None


LIBRARY = library()


def openssl(cipher, key, data, iv=None, decrypt=False):
    if LIBRARY is None:
        return command(cipher, key, data, iv, decrypt)
    fetched = c_void_p(LIBRARY.EVP_CIPHER_fetch(None, cipher.encode(), None))
    context = c_void_p(LIBRARY.EVP_CIPHER_CTX_new())
    out, length = create_string_buffer(len(data) + 32), c_int()
    try:
        done = (
            fetched.value
            and LIBRARY.EVP_CipherInit_ex(context, fetched, None, key, iv, 0 if decrypt else 1) == 1
            and LIBRARY.EVP_CIPHER_CTX_set_padding(context, 0) == 1
            and LIBRARY.EVP_CipherUpdate(context, out, byref(length), data, len(data)) == 1
        )
        if not done or length.value != len(data):
            raise ValueError(f'libcrypto and {cipher}')
        return out.raw[: len(data)]
    finally:
        LIBRARY.EVP_CIPHER_CTX_free(context)
        LIBRARY.EVP_CIPHER_free(fetched)


def command(cipher, key, data, iv, decrypt):
    arguments = ['openssl', 'enc', '-d' if decrypt else '-e', '-' + cipher, '-K', key.hex(), '-nopad', '-nosalt']
    if iv is not None:
        arguments += ['-iv', iv.hex()]
    if cipher.startswith('des'):
        arguments += ['-provider', 'default']
    return subprocess.run(arguments, input=data, check=True, capture_output=True).stdout


def tdea(key, data, decrypt=False, iv=None):
    whole = {8: key * 3, 16: key + key[:8], 24: key}[len(key)]
    return openssl('des-ede3-cbc' if iv is not None else 'des-ede3', whole, data, iv, decrypt)


def aes(key, data, decrypt=False, iv=None):
    if len(key) not in (16, 24, 32) or len(data) % 16 or not data:
        raise Refused('AES')
    return openssl(f'aes-{8 * len(key)}-' + ('ecb' if iv is None else 'cbc'), key, data, iv, decrypt)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def require(holds):
    if not holds:
        raise Refused


def digits(text, low, high):
    require(isinstance(text, str) and low <= len(text) <= high and all(c in '0123456789' for c in text))
    return text


def account(pan):
    """12 digits before the check digit, zeros before them."""
    return pan[-13:-1].rjust(12, '0')


def field(control, pin, filler):
    return bytes.fromhex(f'{control}{len(pin):X}{pin}{filler}')


def encode(number, test, least):
    pin = digits(test['pin'], 4, 12)
    bound = number in (0, 3)
    pan = digits(test.get('pan'), least, 19) if bound else ''
    fill = test.get('fill', 'F' * (14 - len(pin)))
    block = field(number, pin, fill)
    return xor(block, bytes.fromhex('0000' + account(pan))) if bound else block


def decode(number, block, pan, size=8):
    require(len(block) == size)
    plain = block[:8]
    if number in (0, 3):
        plain = xor(plain, bytes.fromhex('0000' + account(digits(pan, 10, 19))))
    text = plain.hex().upper()
    length = int(text[1], 16)
    require(text[0] == str(number) and 4 <= length <= 12)
    pin, fill = text[2:2 + length], text[2 + length:]
    allowed = {0: 'F', 1: '0123456789ABCDEF', 2: 'F', 3: 'ABCDEF', 4: 'A'}[number]
    require(all(c in '0123456789' for c in pin) and all(c in allowed for c in fill))
    return pin


def pan_field(pan):
    padded = digits(pan, 1, 19).rjust(12, '0')
    return bytes.fromhex(f'{len(padded) - 12}{padded}'.ljust(32, '0'))


def cmac(cipher, size, key, data):
    def double(block):
        value = int.from_bytes(block, 'big') << 1
        if value >> (8 * size):
            value = (value ^ (0x87 if size == 16 else 0x1B)) & ((1 << (8 * size)) - 1)
        return value.to_bytes(size, 'big')

    one = double(cipher(key, bytes(size)))
    whole = len(data) % size == 0 and len(data) > 0
    padded = data if whole else data + b'\x80' + bytes(-(len(data) + 1) % size)
    last = xor(padded[-size:], one if whole else double(one))
    return cipher(key, padded[:-size] + last, iv=bytes(size))[-size:]


def pad(method, data):
    length = (8 * len(data)).to_bytes(8, 'big') if method == 3 else b''
    if method == 2:
        data += b'\x80'
    data += bytes(-len(data) % 8)
    return length + (data or bytes(8))


def mac(test):
    key, data = bytes.fromhex(test['key']), pad(test['padding'], bytes.fromhex(test['data']))
    if test['algorithm'] == 1:
        return tdea(key, data, iv=bytes(8))[-8:]
    first = key[:8]
    chain = tdea(first, data, iv=bytes(8))[-8:]
    inner = tdea(key[8:16], chain, decrypt=True)
    return tdea(key[16:24] if len(key) == 24 else first, inner)


def pvv(test):
    nibbles = test['pan'][-12:-1] + str(test['pvki']) + test['pin'][:4]
    out = tdea(bytes.fromhex(test['key']), bytes.fromhex(nibbles)).hex().upper()
    return ([c for c in out if c in '0123456789'] + [str(int(c, 16) - 10) for c in out if c in 'ABCDEF'])


def offset(test):
    table = test['decimalisation']
    require(len(table) == 16 and len(set(table)) >= 8 and max(table.count(c) for c in table) <= 4)
    data = test['pan'][test['from']:test['from'] + test['length']].ljust(16, test['pad'])
    out = tdea(bytes.fromhex(test['key']), bytes.fromhex(data)).hex()
    return ''.join(str((int(pin) - int(table[int(c, 16)])) % 10) for pin, c in zip(test['pin'], out))


def key_block_keys(kbpk, aes_block):
    """KBEK and KBAK of key derivation binding: CMACs under the KBPK."""
    cipher, size = (aes, 16) if aes_block else (tdea, 8)
    code = {16: 2, 24: 3, 32: 4}[len(kbpk)] if aes_block else {16: 0, 24: 1}[len(kbpk)]
    bits = (8 * len(kbpk)).to_bytes(2, 'big')
    return [b''.join(cmac(cipher, size, kbpk, bytes([i, 0, use, 0, 0, code]) + bits) for i in range(1, 5))[:len(kbpk)]
            for use in (0, 1)]


def optional_blocks(block, size):
    """Where they end, and their data by id."""
    at, found = 16, {}
    require(block[12:14].isdigit())
    for _ in range(int(block[12:14])):
        name, digits_of, head = block[at:at + 2], block[at + 2:at + 4], 4
        require(len(name) == 2 and name.isalnum() and name.upper() == name and name not in found and 'PB' not in found)
        if digits_of == '00':
            count = int(hexadecimal(block[at + 4:at + 6], 2), 16)
            require(1 <= count <= 4)
            digits_of, head = block[at + 6:at + 6 + count], 6 + count
            length = int(hexadecimal(digits_of, count), 16)
        else:
            length = int(hexadecimal(digits_of, 2), 16)
        require(head <= length <= len(block) - at)
        found[name] = block[at + head:at + length]
        at += length
    require((at - 16) % size == 0)
    return at, found


def hexadecimal(text, length):
    require(len(text) == length and all(c in '0123456789ABCDEFabcdef' for c in text))
    return text


def open_key_block(kbpk, block):
    """ANSI X9.143 and TR-31:2018: versions A to D. Header fields and the key, or Refused."""
    require(16 <= len(block) <= 9999 and all(' ' <= c <= '~' for c in block) and block[0] in 'ABCD')
    version = block[0]
    require(block[1:5].isdigit() and int(block[1:5]) == len(block))
    size, mac_digits = {'A': (8, 8), 'B': (8, 16), 'C': (8, 8), 'D': (16, 32)}[version]
    require(len(kbpk) in ((16, 24, 32) if version == 'D' else (16, 24)) and len(block) % size == 0)
    require(block[7] in 'ADEHRST' and block[8] in 'BCDEGNSTVXY' and block[11] in 'ENS' and block[14:16] in ('00', '10', '20'))
    at, optional = optional_blocks(block, size)
    require(len(block) - at - mac_digits >= 2 * size and (len(block) - at - mac_digits) % (2 * size) == 0)
    body = bytes.fromhex(hexadecimal(block[at:-mac_digits], len(block) - at - mac_digits))
    mac, head = bytes.fromhex(hexadecimal(block[-mac_digits:], mac_digits)), block[:at].encode()
    if version in 'BD':
        cipher = aes if version == 'D' else tdea
        kbek, kbak = key_block_keys(kbpk, version == 'D')
        clear = cipher(kbek, body, True, iv=mac)
        require(cmac(cipher, size, kbak, head + clear) == mac)
    else:
        kbek, kbak = (bytes(byte ^ mask for byte in kbpk) for mask in (0x45, 0x4D))
        require(tdea(kbak, head + body, iv=bytes(8))[-8:-4] == mac)
        clear = tdea(kbek, body, True, iv=head[:8])
    bits = int.from_bytes(clear[:2], 'big')
    require(bits % 8 == 0 and 0 < bits // 8 <= len(clear) - 2)
    key = clear[2:2 + bits // 8]
    require(len(key) in {'T': (16, 24), 'A': (16, 24, 32), 'H': (32,)}.get(block[7], ()))
    require(optional.get('HM') == ('21' if block[7] == 'H' else None))
    require(block[7] != 'H' or 'KC' not in optional)
    if 'KC' in optional:
        kcv = bytes.fromhex(hexadecimal(optional['KC'][2:], len(optional['KC']) - 2))
        cipher, zero = (tdea, bytes(8)) if block[7] == 'T' else (aes, bytes(16))
        require(optional['KC'][:2] in ('00', '01') and 2 <= len(kcv) <= 5)
        value = cipher(key, zero) if optional['KC'][:2] == '00' else cmac(cipher, len(zero), key, zero)
        require(value.startswith(kcv))
    fields = {'usage': block[5:7], 'algorithm': block[7], 'mode': block[8], 'exportability': block[11]}
    return {**fields, 'key': key.hex().upper()}


def check(kind, number, test, least):
    """Raises Refused, or says whether the values are those of the case."""
    if kind == 'pin-block.encode':
        block = encode(number, test, least).hex().upper()
        return block == test['block'] if 'block' in test else block.startswith(test.get('blockPrefix', block))
    if kind == 'pin-block.decode':
        return decode(number, bytes.fromhex(test['block']), test.get('pan')) == test.get('pin')
    if kind == 'pin-block.encipher':
        return tdea(bytes.fromhex(test['key']), encode(number, test, least)).hex().upper() == test['enciphered']
    if kind == 'pin-block-4.pin-field':
        pin = digits(test['pin'], 4, 12)
        return field(4, pin, 'A' * (14 - len(pin))).hex().upper() + test['random'] == test['pinField']
    if kind == 'pin-block-4.pan-field':
        return pan_field(test['pan']).hex().upper() == test['panField']
    if kind == 'pin-block-4.decode-pin-field':
        return decode(4, bytes.fromhex(test['pinField']), None, 16) == test.get('pin')
    if kind == 'pin-block-4.encipher':
        pin, key = digits(test['pin'], 4, 12), bytes.fromhex(test['key'])
        clear = field(4, pin, 'A' * (14 - len(pin))) + bytes.fromhex(test['random'])
        return aes(key, xor(aes(key, clear), pan_field(test['pan']))).hex().upper() == test['enciphered']
    if kind == 'pin-block-4.decipher':
        key, block = bytes.fromhex(test['key']), bytes.fromhex(test['enciphered'])
        require(len(block) == 16)
        clear = aes(key, xor(aes(key, block, True), pan_field(test['pan'])), True)
        return decode(4, clear, None, 16) == test.get('pin')
    if kind == 'mac.iso9797':
        return mac(test).hex().upper() == test['mac']
    if kind == 'cmac':
        cipher, size = (tdea, 8) if test['cipher'] == 'TDEA' else (aes, 16)
        return cmac(cipher, size, bytes.fromhex(test['key']), bytes.fromhex(test['data'])).hex().upper() == test['mac']
    if kind == 'kcv':
        cipher, size = (tdea, 8) if test['cipher'] == 'TDEA' else (aes, 16)
        key, zero = bytes.fromhex(test['key']), bytes(size)
        value = cipher(key, zero) if test['method'] == 'ecb-zero' else cmac(cipher, size, key, zero)
        return value.hex().upper().startswith(test['kcv'])
    if kind == 'visa-pvv':
        return ''.join(pvv(test)[:4]) == test['pvv']
    if kind == 'ibm-3624':
        return offset(test) == test['offset']
    if kind == 'key-block.open':
        return open_key_block(bytes.fromhex(test['kbpk']), test['block'])['key'] == test.get('key')
    raise ValueError(f'unknown kind {kind}')


def main(folder):
    counts, wrong = {}, []
    for path in sorted(Path(folder).glob('*_test.json')):
        data = json.loads(path.read_text(encoding='utf-8'))
        number = int(path.stem.split('_')[2]) if path.stem.startswith('iso9564') else -1
        seen, last = 0, 0
        for group in data['testGroups']:
            for test in group['tests']:
                seen += 1
                if test['tcId'] <= last or not set(test['flags']) <= set(data['notes']):
                    wrong.append(f"{path.name} {test['tcId']}: numbering or flags")
                last = test['tcId']
                # A PAN field has been published for fewer digits than a PAN has.
                least = 10 if test['result'] == 'invalid' else 1
                try:
                    holds = check(group['type'], number, test, least)
                except Refused:
                    holds = False
                if holds != (test['result'] != 'invalid'):
                    wrong.append(f"{path.name} {test['tcId']} is {test['result']}: {test['comment']}")
        if seen != data['numberOfTests']:
            wrong.append(f'{path.name}: {seen} cases, not {data["numberOfTests"]}')
        counts[path.name] = seen
    print(json.dumps({'counts': counts, 'wrong': wrong}))
    return 1 if wrong or not counts else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
