"""Samples of eight invented schemes, computed with the package cryptography and from their descriptions alone.

Prints JSON, which is kept as samples.json: python3 test/seccos/samples.py > test/seccos/samples.json
"""
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

try:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES

TDEA_PRW = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
TDEA_MAC = bytes.fromhex("7CA110454A1A6E570131D9619DC1376E")
AES_PRW = bytes.fromhex("2B7E151628AED2A6ABF7158809CF4F3C")
AES_MAC = bytes.fromhex("77A77FAF290C1FA30C683DF16BA7A77B")
HMAC_PRW = bytes(range(32))
HMAC_MAC = bytes(range(32, 64))
CARDS = [
    dict(pan="5413330089604111", psn="01", pin="12345", pcc="0042", intdatag="D1-TAG-0123456789-AB",
         random="DEAD0042CAFE1234", cdp="A1B2", cdt="2812"),
    dict(pan="4000001234567899", psn="02", pin="7392", pcc="1307", intdatag="D1-TAG-9876543210-YZ",
         random="0123456789ABCDEF", cdp="0C0D", cdt="3001"),
    dict(pan="6799991234567890128", psn="00", pin="998877665544", pcc="9999", intdatag="x=1;y=2;z=3;w=4;v=55",
         random="A5A5A5A55A5A5A5A", cdp="FFFF", cdt="2701"),
]


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def run(cipher, mode, data, encipher=True):
    c = Cipher(cipher, mode)
    context = c.encryptor() if encipher else c.decryptor()
    return context.update(data) + context.finalize()


def three(key):
    return TripleDES({8: key * 3, 16: key + key[:8], 24: key}[len(key)])


def pad(data, method, size):
    if method == 2:
        data += b"\x80"
    return data + bytes(-len(data) % size) if data else bytes(size)


def alg1(key, data, method, iv=bytes(8)):
    return run(three(key), modes.CBC(iv), pad(data, method, 8))[-8:]


def alg3(key, data, method, iv=bytes(8)):
    last = run(three(key[:8]), modes.CBC(iv), pad(data, method, 8))[-8:]
    return run(three(key[:8]), modes.ECB(), run(three(key[8:16]), modes.ECB(), last, False))


def cmac(cipher, data):
    c = CMAC(cipher)
    c.update(data)
    return c.finalize()


def bcd(digits, length, fill="F", right=False):
    return bytes.fromhex(digits.rjust(2 * length, fill) if right else digits.ljust(2 * length, fill))


def ebcdic(text, page="cp273"):
    return text.encode(page)


def masked(card):
    return (bytes(10) + bcd(card["psn"], 1) + bcd(card["pcc"], 2) + bytes.fromhex(card["random"])
            + card["intdatag"].encode() + bytes(82))


def digits_bcd(pin):
    return bcd(pin, 8)


def format1(card):
    head = "1%X%s" % (len(card["pin"]), card["pin"])
    return bytes.fromhex(head + card["random"][len(head):])


def format3(card):
    head = "3%X%s" % (len(card["pin"]), card["pin"])
    account = card["pan"][:-1][-12:].rjust(16, "0")
    return xor(bytes.fromhex(head.ljust(16, "A")), bytes.fromhex(account))


def format4(card):
    head = "4%X%s" % (len(card["pin"]), card["pin"])
    return bytes.fromhex(head.ljust(16, "A") + card["random"])


def derived(card):
    y = bytes.fromhex((card["pan"] + card["psn"])[-16:])
    key = run(three(TDEA_PRW), modes.ECB(), y + xor(y, b"\xff" * 8))
    pcc = bytes.fromhex(card["pcc"])
    key = run(three(key), modes.ECB(), pcc + bytes.fromhex("F00000000000") + pcc + bytes.fromhex("0F0000000000"))
    prw = alg3(key, masked(card) + digits_bcd(card["pin"]), 2)
    mac_key = cmac(algorithms.AES(AES_MAC), b"\x00\x01" + b"MAC\x00" + bcd(card["psn"], 1))
    mac_key = xor(mac_key, bytes.fromhex("C0" * 16))
    mac = cmac(algorithms.AES(mac_key), masked(card) + prw)[:8]
    return masked(card), prw.hex().upper(), mac.hex().upper()


def external(card):
    message = (card["pan"].ljust(19).encode() + bytes.fromhex(card["cdp"]) + card["cdt"].encode()
               + bytes([len(card["pin"])]) + bcd(card["pin"], 8) + bytes.fromhex(card["random"]))
    prw = cmac(algorithms.AES(AES_PRW), message)
    kids = b"PRW-KEY".ljust(16, b"\x00") + ebcdic("is_tbank01")
    mac = alg3(TDEA_MAC, masked(card) + kids + prw.hex().upper().encode(), 1)
    return masked(card), prw.hex().upper(), mac.hex().upper()


def forms(card):
    message = (format1(card) + ebcdic(card["pin"].rjust(12, "0")) + format3(card) + format4(card)
               + card["pan"].rjust(19, "0").encode())
    prw = alg1(TDEA_PRW, message, 2)
    mac = alg3(TDEA_MAC, masked(card) + ebcdic(prw.hex().upper()), 2)
    return masked(card), prw.hex().upper(), mac.hex().upper()


def parts(card):
    pan = card["pan"]
    shown = bcd(pan, 10).hex().upper()
    shown = bytes.fromhex(shown[:6] + "0" * 6 + shown[12:])
    body = (int(card["pcc"]).to_bytes(4, "little") + ebcdic(card["intdatag"]) + bytes.fromhex(card["random"]))
    data = shown + b"\xff" * 6 + body + bytes(75)
    full = bcd(pan, 10) + bcd(pan[:-1][-12:], 6, "0", True) + body + bytes(75)
    prw = cmac(algorithms.AES(AES_PRW), full + digits_bcd(card["pin"]))
    mac = cmac(algorithms.AES(AES_MAC), data[10:] + pan[6:].rjust(13, "0").encode() + prw[4:12])[:8]
    return data, prw.hex().upper(), mac.hex().upper()


def enciphered(card):
    message = digits_bcd(card["pin"]) + bcd(card["pan"], 10)
    prw = run(algorithms.AES(AES_PRW), modes.CBC(bytes(range(16))), pad(message, 2, 16))
    mac = cmac(algorithms.AES(AES_MAC), masked(card) + prw)[:8]
    return masked(card), prw.hex().upper(), mac.hex().upper()


def hashed(card):
    field = run(three(TDEA_PRW), modes.ECB(), pad(digits_bcd(card["pin"]), 1, 8))
    prw = cmac(three(TDEA_PRW), hashlib.sha256(masked(card) + field).digest())
    mac = alg1(TDEA_MAC, hashlib.sha1(masked(card) + prw).digest(), 1)
    return masked(card), prw.hex().upper(), mac.hex().upper()


def outputs(card):
    raw = alg1(TDEA_PRW, masked(card) + digits_bcd(card["pin"]) + bcd(card["pan"], 10), 2, bytes.fromhex(card["random"]))
    folded = xor(raw[:4], raw[4:])
    prw = "".join("0123456789012345"[int(n, 16)] for n in folded.hex())
    mac = alg3(TDEA_MAC, masked(card) + prw.encode(), 2)[-3:]
    return masked(card), prw, ebcdic(mac.hex().upper()).hex().upper()


def keyed(card):
    message = masked(card) + digits_bcd(card["pin"])
    prw = hmac.digest(HMAC_PRW, message, "sha256")
    mac = hmac.digest(HMAC_MAC, masked(card) + prw, "sha256")[:8]
    return masked(card), prw.hex().upper(), mac.hex().upper()


SCHEMES = dict(derived=derived, external=external, forms=forms, parts=parts, enciphered=enciphered, hashed=hashed,
               outputs=outputs, keyed=keyed)


def sample(make, card):
    data, prw, mac = make(card)
    return dict(card, prwDataSet=data.hex().upper(), prwValue=prw, macValue=mac)


print(json.dumps({name: [sample(make, card) for card in CARDS] for name, make in SCHEMES.items()}, indent=2))
