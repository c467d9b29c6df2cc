"""Answers the lines of inputs.ts with the package cryptography; the PRW from the JSON of a profile alone."""
import base64
import hashlib
import json
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

try:
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
except ImportError:
    TripleDES = algorithms.TripleDES


def data_of(text):
    return b"" if text == "-" else bytes.fromhex(text)


def show(data):
    return data.hex().upper()


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def tdea(key, data, mode, encipher=True):
    three = {8: key * 3, 16: key + key[:8], 24: key}[len(key)]
    cipher = Cipher(TripleDES(three), mode)
    context = cipher.encryptor() if encipher else cipher.decryptor()
    return context.update(data) + context.finalize()


def padded(message, method, size=8):
    body = message + b"\x80" if method == 2 else message
    body += bytes(-len(body) % size) or (bytes(size) if not body else b"")
    return (len(message) * 8).to_bytes(size, "big") + body if method == 3 else body


def pin_block(pin, pan):
    field = bytes.fromhex("0%x%s" % (len(pin), pin.ljust(14, "F")))
    return xor(field, bytes.fromhex("0000" + pan[:-1][-12:].rjust(12, "0")))


def alg1(key, data, iv=bytes(8)):
    return tdea(key, data, modes.CBC(iv))[-8:]


def alg3(key, data, iv=bytes(8)):
    """DES-CBC under K1, then D under K2 and E under K3 (K1 where there are two)."""
    k1, k2, k3 = key[:8], key[8:16], key[16:] or key[:8]
    last = tdea(k1, data, modes.CBC(iv))[-8:]
    return tdea(k3, tdea(k2, last, modes.ECB(), encipher=False), modes.ECB())


def cmac(kind, key, message):
    three = key + key[:8] if kind == "tdea" and len(key) == 16 else key
    mac = CMAC(TripleDES(three) if kind == "tdea" else algorithms.AES(key))
    mac.update(message)
    return mac.finalize()


def point_of(data):
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)


def derive(scalar, point, info):
    key = ec.derive_private_key(int(scalar, 16), ec.SECP256R1())
    z = key.exchange(ec.ECDH(), point_of(point))
    return hashlib.sha256(b"\x00\x00\x00\x01" + z + info).digest()


def verify(point, message, signature):
    r, s = (int.from_bytes(signature[i : i + 32], "big") for i in (0, 32))
    try:
        point_of(point).verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        return "01"
    except InvalidSignature:
        return "00"


# The PRW, from the words of the profile schema.

PIN_FORMS = {
    "iso9564-format-0": lambda pin, pan: pin_block(pin, pan),
    "digits-bcd": lambda pin, pan: bytes.fromhex(pin.ljust(16, "F")),
}
ENCODINGS = {"ascii": "ascii", "ebcdic": "cp500"}


def aligned(form, units, length, pad):
    """Places units (digits, bytes) in a field: all of it, from the left or from the right, with the pad beside."""
    rest = [pad] * (length - len(units))
    assert form["align"] != "exact" or not rest
    return rest + units if form["align"] == "right" else units + rest


def field_value(form, value):
    """The bytes of a text or of bytes in a field of this form."""
    size, encoding, pad = form["length"], form["encoding"], form.get("pad", "00")
    if encoding == "bcd":
        return bytes.fromhex("".join(aligned(form, list(value), 2 * size, pad)))
    raw = value if encoding == "binary" else value.encode(ENCODINGS[encoding])
    return bytes(aligned(form, list(raw), size, int(pad, 16)))


def field_content(form, values):
    name = form["id"]
    if name == "pinBlock":
        return field_value(form, PIN_FORMS[values["profile"]["pinBlock"]](values["pin"], values["pan"]))
    if name == "pinLength":
        return len(values["pin"]).to_bytes(form["length"], "big")
    if name == "pcc" and form["encoding"] == "binary":
        return int(values["pcc"]).to_bytes(form["length"], "big")
    if name in ("random", "cardData"):
        return field_value(form, bytes.fromhex(values[name]))
    return field_value(form, values[name])


def data_set(values, masked):
    out = bytearray(123)
    for form in values["profile"]["fields"]:
        if "constant" in form:
            content = bytes.fromhex(form["constant"])
        elif masked and form["masked"]:
            content = bytes(form["length"])
        else:
            content = field_content(form, values)
        assert len(content) == form["length"]
        out[form["offset"] : form["offset"] + form["length"]] = content
    return bytes(out)


def part(form, values):
    kind = form["input"]
    if kind.startswith("dataSet."):
        return data_set(values, masked=kind == "dataSet.masked")
    if kind == "pinBlock":
        return PIN_FORMS[values["profile"]["pinBlock"]](values["pin"], values["pan"])
    if kind == "prw":
        return values["prw"] if form["form"] == "binary" else show(values["prw"]).encode("ascii")
    return field_content({**form, "id": kind}, values)


def computed(rule, key, values):
    message = b"".join(part(form, values) for form in rule["inputs"])
    if rule["algorithm"] == "cmac-aes":
        mac = cmac("aes", key, message)
    else:
        assert rule["algorithm"] == "iso9797-1-alg3"
        mac = alg3(key, padded(message, rule["padding"]), bytes.fromhex(rule["iv"]))
    assert rule["text"] == "hex-upper"
    return mac[: rule["outputBytes"]]


def prw(text):
    values = json.loads(base64.b64decode(text))
    profile = values["profile"]
    value = computed(profile["prw"], bytes.fromhex(values["prwKey"]), values)
    mac = computed(profile["mac"], bytes.fromhex(values["macKey"]), {**values, "prw": value})
    return f"{show(data_set(values, masked=True))} {show(value)} {show(mac)}"


def check_value(kind, key):
    if kind == "tdea":
        return tdea(key, bytes(8), modes.ECB())[:3]
    return cmac("aes", key, bytes(16))[:5]


ANSWERS = {
    "pinblock": lambda k, pin, pan: show(tdea(data_of(k), pin_block(pin, pan), modes.ECB())),
    "alg1": lambda k, p, m: show(alg1(data_of(k), padded(data_of(m), int(p)))),
    "alg3": lambda k, p, m: show(alg3(data_of(k), padded(data_of(m), int(p)))),
    "cmac": lambda c, k, m: show(cmac(c, data_of(k), data_of(m))),
    "kcv": lambda c, k: show(check_value(c, data_of(k))),
    "kdf": lambda d, q, i: show(derive(d, data_of(q), data_of(i))),
    "es256": lambda q, m, s: verify(data_of(q), data_of(m), data_of(s)),
    "prw": prw,
}

for line in sys.stdin:
    word, *arguments = line.split()
    print(ANSWERS[word](*arguments))
