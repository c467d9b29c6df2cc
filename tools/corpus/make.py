#!/usr/bin/env python3
"""Writes vectors/corpus: the known answers of vectors/ once more, in the shape of Wycheproof's test files.

Run it from the root of the repository: python3 tools/corpus/make.py. It needs Python's standard library only. Nothing is computed
here; values come from the files of vectors/, for PVV and IBM 3624 from below, and for key blocks also from key-blocks.json beside this
file.
"""
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / 'vectors'
TARGET = SOURCE / 'corpus'
KEY = '0123456789ABCDEFFEDCBA9876543210'
TABLE = '1234567890123456'
PAN = '1122334455667788'
PSEC = 'knovichikhin/psec@90ccbf3ae0ef:tests/test_pin.py'

# validation: from, length, pad; then offset and PIN.
OFFSETS = [
    (0, 16, 'F', '0000', '4524'), (0, 16, 'F', '1111', '5635'), (0, 16, 'F', '6586', '0000'),
    (0, 16, 'F', '7697', '1111'), (0, 16, 'F', '7710', '1234'), (0, 14, 'F', '0000', '5518'),
    (1, 14, '1', '0000', '3675'), (2, 14, '1', '0000', '5550'),
]
PVVS = [
    (1, '4524', PAN, '8523'), (2, '1912', PAN, '3244'),
    (1, '0570', '1122334455667718', '3144'), (1, '8299', '1122334455667708', '4422'),
]
NOTES = {
    'Ordinary': 'An ordinary case.',
    'RandomFill': 'The filler is random: only the digits in blockPrefix are determined.',
    'WrongPan': 'The block is of another PAN.',
    'WrongPanUnseen': 'The block is of another PAN, which the format cannot notice.',
    'ShortPan': 'A PAN of fewer than 12 digits.',
    'InvalidControl': 'The control nibble is that of another format.',
    'InvalidLength': 'The PIN length is not 4 to 12.',
    'InvalidFill': 'A filler nibble is out of range.',
    'InvalidDigit': 'A nibble of the PIN is not a decimal digit.',
    'InvalidSize': 'The block is not as long as the format has it.',
    'WeakKey': 'The key is weak, semi-weak or degenerate: an implementation may refuse it.',
    'SingleDes': 'The key is a single DES key.',
    'WrongValue': 'The value is not the one of this PIN.',
    'OpenTable': 'The decimalisation table invites the decimalisation table attack: an implementation must refuse it.',
    'BadInput': 'PIN, PAN or key are not what they must be.',
    'LegacyBinding': 'Version A or C: keys are variants of the KBPK and the MAC has four bytes. An implementation may refuse it.',
    'WeakerKbpk': 'The KBPK is weaker than the key inside. An implementation may refuse it.',
    'ModifiedMac': 'The MAC is not the one of the block.',
    'ModifiedKey': 'What is enciphered was changed.',
    'ModifiedHeader': 'A field of the header was changed: the block is not authentic.',
    'WrongKbpk': 'The KBPK is another one, or of a cipher or length that the version does not take.',
    'InvalidVersion': 'There is no such version.',
    'InvalidBlockLength': 'The length that the header states is not the length of the block, or is no whole number of cipher blocks.',
    'InvalidHeaderField': 'A field of the header has a value that X9.143 does not know.',
    'InvalidOptionalBlock': 'An optional block is malformed, is there twice, or the blocks are not padded.',
    'InvalidCharacter': 'A character that is no hex digit, or is not printable ASCII.',
    'InvalidKeyLength': 'Authentic, and the length inside is none of the algorithm, or more than there is.',
    'UnknownHash': 'Authentic, and the hash of an HMAC key (optional block HM) is not stated, is not SHA-256, or the key is no HMAC key.',
    'WrongCheckValue': 'Authentic, and optional block KC holds the check value of another key, or none.',
}
REASONS = {
    'control': 'InvalidControl', 'length': 'InvalidLength', 'filler': 'InvalidFill', 'pin-digit': 'InvalidDigit',
    'block-size': 'InvalidSize', 'ciphertext': 'InvalidControl', 'pan': 'WrongPan', 'pin': 'BadInput', 'key': 'BadInput',
}


def load(name):
    data = json.loads((SOURCE / name).read_text(encoding='utf-8'))
    return data['vectors'], data['sources']


def flags_of(vector):
    own = vector.get('flags', [])
    flags = [REASONS.get(vector['reason'], 'BadInput')] if vector['expect'] == 'reject' else []
    if vector['operation'].startswith('pin-block') and vector.get('inputs', {}).get('pan') is not None:
        if len(vector['inputs']['pan']) < 12:
            flags.append('ShortPan')
    if 'pan-change-undetected' in own:
        flags.append('WrongPanUnseen')
    if 'blockPrefix' in vector.get('outputs', {}):
        flags.append('RandomFill')
    if any(one in own for one in ('weak-key', 'degenerate-key')):
        flags.append('WeakKey')
    if 'single-des' in own:
        flags.append('SingleDes')
    return flags or ['Ordinary']


def tests_of(vectors, sources):
    for vector in vectors:
        source = sources[vector['source']]
        test = {'comment': f"{vector['id']}: {vector.get('note') or source['title']}", 'flags': flags_of(vector)}
        test.update(vector['inputs'])
        test.update(vector.get('outputs', {}))
        test['result'] = 'valid' if vector['expect'] == 'accept' else 'invalid'
        # 10 and 11 digits are a PAN since ISO/IEC 7812-1:2017, and were none before.
        if test['result'] == 'invalid' and vector['reason'] == 'pan' and 10 <= len(test['pan']) < 12 and test['pan'].isdigit():
            test.update({'flags': ['ShortPan'], 'result': 'acceptable'})
        # A weak key is a matter of policy, not of the cipher.
        if test['result'] == 'valid' and 'WeakKey' in test['flags']:
            test['result'] = 'acceptable'
        yield vector['operation'], test


def write(name, algorithm, header, groups):
    count, used, written = 0, set(), []
    for kind, more, tests in groups:
        numbered = []
        for test in tests:
            count += 1
            numbered.append({'tcId': count, **test})
            used.update(test['flags'])
        if numbered:
            written.append({'type': kind, **more, 'tests': numbered})
    data = {
        'algorithm': algorithm, 'schema': 'schema.json', 'generatorVersion': '1', 'numberOfTests': count, 'header': header,
        'notes': {flag: NOTES[flag] for flag in sorted(used)}, 'testGroups': written,
    }
    TARGET.mkdir(exist_ok=True)
    text = json.dumps(data, indent=1, ensure_ascii=False) + '\n'
    (TARGET / f'{name}_test.json').write_text(text, encoding='utf-8')


def by_operation(tests):
    groups = {}
    for operation, test in tests:
        groups.setdefault(operation, []).append(test)
    return [(operation, {}, found) for operation, found in groups.items()]


def key_blocks():
    published, sources = load('tr31.json')
    own = json.loads((Path(__file__).parent / 'key-blocks.json').read_text(encoding='utf-8'))
    tests = []

    def add(comment, flags, kbpk, block, key=None):
        result = 'invalid' if key is None else 'acceptable' if flags != ['Ordinary'] else 'valid'
        inside = {} if key is None else {'key': key}
        tests.append({'comment': comment, 'flags': flags, 'kbpk': kbpk, 'block': block, **inside, 'result': result})

    def policy(kbpk, block, key):
        flags = ['LegacyBinding'] if block[0] in 'AC' else []
        tdea, inner = block[0] != 'D', len(key) if block[7] == 'T' else 100 + len(key)
        return flags + (['WeakerKbpk'] if inner > len(kbpk) + (0 if tdea else 100) else []) or ['Ordinary']

    valid = [(f"{sources[v['source']]['title']}: {v['at']}", v['inputs']['kbpk'], v['inputs']['block'], v['outputs']['key'])
             for v in published]
    valid += [(v['comment'], v['kbpk'], v['block'], v['key']) for v in own['valid']]
    for comment, kbpk, block, key in valid:
        add(comment, policy(kbpk, block, key), kbpk, block, key)

    def changed(block, at, text):
        return block[:at] + text + block[at + len(text):]

    def digit(block, at):
        return changed(block, at, '0' if block[at] != '0' else '1')

    first = {block[0]: (kbpk, block) for _, kbpk, block, _ in reversed(valid)}
    for version in 'ABCD':
        kbpk, block = first[version]
        what = f'version {version}: '
        add(what + 'the last digit of the MAC', ['ModifiedMac'], kbpk, digit(block, len(block) - 1))
        add(what + 'the first digit of the MAC', ['ModifiedMac'], kbpk, digit(block, len(block) - {'A': 8, 'B': 16, 'C': 8, 'D': 32}[version]))
        end = len(block) - {'A': 56, 'B': 64, 'C': 56, 'D': 96}[version]
        add(what + 'the first digit of the key', ['ModifiedKey'], kbpk, digit(block, end))
        for name, at, text in (('usage', 5, 'K0'), ('algorithm', 7, 'H'), ('mode', 8, 'N'), ('key version', 9, 'c9'),
                               ('exportability', 11, 'N'), ('reserved field', 14, '10')):
            add(f'{what}another {name}', ['ModifiedHeader'], kbpk, changed(block, at, text))
        add(what + 'a KBPK that differs in one bit', ['WrongKbpk'], ('0' if kbpk[0] != '0' else '8') + kbpk[1:], block)
        add(what + 'a KBPK of one byte less', ['WrongKbpk'], kbpk[:-2], block)
        add(what + 'cut off after the header', ['InvalidBlockLength'], kbpk, block[:16])
        add(what + 'cut off by one digit', ['InvalidBlockLength'], kbpk, block[:-1])
        add(what + 'two digits more', ['InvalidBlockLength'], kbpk, block + '00')
        add(what + 'a stated length of zero', ['InvalidBlockLength'], kbpk, changed(block, 1, '0000'))
        add(what + 'a stated length that is none', ['InvalidBlockLength'], kbpk, changed(block, 1, '00x2'))
        short = block[:16] + block[16 + {'A': 16, 'B': 16, 'C': 16, 'D': 32}[version]:]
        add(what + 'a cipher block less, with the length put right', ['ModifiedKey'], kbpk, f'{version}{len(short):04d}' + short[5:])
        add(what + 'a letter that is no hex digit', ['InvalidCharacter'], kbpk, changed(block, len(block) - 2, 'G'))
        add(what + 'a space in it', ['InvalidCharacter'], kbpk, changed(block, len(block) - 40, ' '))
        for name, at, text in (('algorithm', 7, 'Q'), ('mode', 8, 'Q'), ('exportability', 11, 'X'), ('number of optional blocks', 12, '0A'),
                               ('reserved field', 14, '99')):
            add(f'{what}no {name} that there is', ['InvalidHeaderField'], kbpk, changed(block, at, text))
        add(what + 'says one optional block more than there is', ['InvalidOptionalBlock'], kbpk,
            changed(block, 12, f'{int(block[12:14]) + 1:02d}'))
        add(what + 'another letter for its version', ['InvalidVersion'], kbpk, 'E' + block[1:])
    kbpk, block = first['B']
    add('version B, called A', ['ModifiedHeader'], kbpk, 'A' + block[1:])
    add('version B, called C', ['ModifiedHeader'], kbpk, 'C' + block[1:])
    add('version B under the KBPK of version D', ['WrongKbpk'], first['D'][0], block)
    add('an empty text', ['InvalidBlockLength'], kbpk, '')
    for bad in own['invalid']:
        add(bad['comment'], [bad['flag']], bad['kbpk'], bad['block'])
    header = ['A key block of X9.143 / TR-31, version A to D, is opened under kbpk; key is what is inside. Header fields are in the block.',
              own['how']]
    write('key_block', 'Key blocks (ANSI X9.143, TR-31)', header, [('key-block.open', {}, tests)])


def main():
    key_blocks()
    zero, zero_sources = load('pin-block-format0.json')
    more, more_sources = load('pin-block-formats.json')
    blocks = {n: list(tests_of([v for v in zero if n == 0], zero_sources)) for n in range(5)}
    for vector in more:
        operation = vector['operation']
        number = 4 if operation.startswith('pin-block-4') else vector['inputs']['format']
        blocks[number] += tests_of([vector], more_sources)
    for number, tests in blocks.items():
        header = ['Hex is upper case. A PAN has its check digit. fill: the nibbles behind the PIN before any PAN is mixed in.',
                  'encode: pin, pan and fill give block. decode: block and pan give pin, or it is refused.']
        write(f'iso9564_format_{number}', f'ISO 9564-1 format {number}', header, by_operation(tests))
    for name, algorithm, target in (('mac-iso9797.json', 'ISO/IEC 9797-1 MAC algorithms 1 and 3', 'iso9797_mac'),
                                    ('cmac.json', 'CMAC', 'cmac'), ('kcv.json', 'Key check values', 'key_check_value')):
        vectors, sources = load(name)
        conventions = json.loads((SOURCE / name).read_text(encoding='utf-8'))['conventions']
        write(target, algorithm, conventions, by_operation(tests_of(vectors, sources)))
    valid = [{'comment': PSEC, 'flags': ['Ordinary'], 'key': KEY, 'pvki': pvki, 'pan': pan, 'pin': pin, 'pvv': pvv,
              'result': 'valid'} for pvki, pin, pan, pvv in PVVS]
    wrong = [{**test, 'comment': 'one digit differs', 'flags': ['WrongValue'], 'result': 'invalid',
              'pvv': str((int(test['pvv'][0]) + 1) % 10) + test['pvv'][1:]} for test in valid]
    header = ['E(11 PAN digits before the check digit, PVKI, 4 PIN digits) under TDEA; the first four decimal digits from the left, '
              'then, if those are too few, A to F less ten.']
    write('visa_pvv', 'Visa PVV', header, [('visa-pvv', {}, valid + wrong)])
    valid = [{'comment': PSEC, 'flags': ['Ordinary'], 'key': KEY, 'decimalisation': TABLE, 'pan': PAN, 'from': start,
              'length': length, 'pad': pad, 'offset': offset, 'pin': pin, 'result': 'valid'}
             for start, length, pad, offset, pin in OFFSETS]
    wrong = [{**test, 'comment': 'one digit differs', 'flags': ['WrongValue'], 'result': 'invalid',
              'offset': str((int(test['offset'][0]) + 1) % 10) + test['offset'][1:]} for test in valid]
    tables = ('0000000000000001', '0000012345678999', '012345')
    open_tables = [{**valid[0], 'comment': 'a table that gives PINs away, or is none', 'flags': ['OpenTable'],
                    'decimalisation': table, 'result': 'invalid'} for table in tables]
    header = ['PAN digits from a place on, so many, padded with pad to 16 nibbles, are enciphered under TDEA and decimalised by the '
              'table; the PIN is that plus the offset, digit by digit modulo 10.']
    write('ibm_3624', 'IBM 3624 PIN offset', header, [('ibm-3624', {}, valid + wrong + open_tables)])


main()
