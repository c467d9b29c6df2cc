#!/usr/bin/env python3
"""Verifies vectors/corpus without a line of issuer-pin-crypto: Python's standard library, and the openssl command for the ciphers.

    python3 test/corpus/verify.py vectors/corpus

Prints one JSON object: how many cases each file has, and what was wrong. Ends with 1 if something was.
"""
import json
import subprocess
import sys
from pathlib import Path


class Refused(Exception):
    """A case that an implementation must refuse."""


def openssl(cipher, key, data, iv=None, decrypt=False):
    command = ['openssl', 'enc', '-d' if decrypt else '-e', '-' + cipher, '-K', key.hex(), '-nopad', '-nosalt']
    if iv is not None:
        command += ['-iv', iv.hex()]
    if cipher.startswith('des'):
        command += ['-provider', 'default']
    return subprocess.run(command, input=data, check=True, capture_output=True).stdout


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
                # A PAN of 10 or 11 digits is one since ISO/IEC 7812-1:2017; vectors from before refuse it.
                least = 12 if test['result'] == 'invalid' else 1
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
