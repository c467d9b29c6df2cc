/**
 * A stand-in for koffi, with a PKCS#11 library behind it that reads and writes memory as one in C would: by address, in the
 * widths of a platform. Behind that is a fake token, so that what the binding writes down is what a token understands.
 */
import type {
  AttributeValue,
  Mechanism,
  ObjectHandle,
  Pkcs11Binding,
  SessionHandle,
  SlotId,
  Template,
} from '../../src/backend/pkcs11/binding/binding.js'
import { CKA, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'

type Given = Uint8Array | bigint | number | null
type Native = (...given: Given[]) => number
type Prototype = readonly string[]

/** What a library, and a platform, are like. */
export interface FakeKoffiOptions {
  /** Bytes of a CK_ULONG: 8, or 4 with packed structures. */
  readonly ulong?: 8 | 4
  readonly packed?: boolean
  /** A list of PKCS#11 3.0, of another version, none of that kind, or no such function. */
  readonly newer?: 3 | 2 | 'none' | 'null'
  /** Functions that are not in its list. */
  readonly lacks?: readonly string[]
  /** Replaces what a function does. */
  readonly instead?: Readonly<Record<string, Native>>
  /** Leaves the default export out. */
  readonly bare?: boolean
}

/** CK_FUNCTION_LIST by place, as far as anything here calls it. */
const PLACES: Readonly<Record<number, string>> = {
  0: 'C_Initialize',
  1: 'C_Finalize',
  2: 'C_GetInfo',
  4: 'C_GetSlotList',
  6: 'C_GetTokenInfo',
  12: 'C_OpenSession',
  13: 'C_CloseSession',
  15: 'C_GetSessionInfo',
  18: 'C_Login',
  19: 'C_Logout',
  20: 'C_CreateObject',
  21: 'C_CopyObject',
  22: 'C_DestroyObject',
  24: 'C_GetAttributeValue',
  25: 'C_SetAttributeValue',
  26: 'C_FindObjectsInit',
  27: 'C_FindObjects',
  28: 'C_FindObjectsFinal',
  29: 'C_EncryptInit',
  30: 'C_Encrypt',
  33: 'C_DecryptInit',
  34: 'C_Decrypt',
  37: 'C_DigestInit',
  39: 'C_DigestUpdate',
  40: 'C_DigestKey',
  41: 'C_DigestFinal',
  42: 'C_SignInit',
  43: 'C_Sign',
  58: 'C_GenerateKey',
  59: 'C_GenerateKeyPair',
  60: 'C_WrapKey',
  61: 'C_UnwrapKey',
  62: 'C_DeriveKey',
  64: 'C_GenerateRandom',
  71: 'C_SessionCancel',
}

const FLAGS: readonly number[] = [
  ...[CKA.TOKEN, CKA.PRIVATE, CKA.SENSITIVE, CKA.EXTRACTABLE, CKA.MODIFIABLE, CKA.COPYABLE, CKA.DESTROYABLE],
  ...[CKA.ENCRYPT, CKA.DECRYPT, CKA.SIGN, CKA.VERIFY, CKA.WRAP, CKA.UNWRAP, CKA.DERIVE],
  ...[CKA.SIGN_RECOVER, CKA.VERIFY_RECOVER, CKA.WRAP_WITH_TRUSTED],
]
const NUMBERS: readonly number[] = [CKA.CLASS, CKA.KEY_TYPE, CKA.VALUE_LEN]
const BIG = 1n << 32n
const LIST = 1n << 60n
const NEWER = 2n << 60n

export function fakeKoffi(token: Pkcs11Binding, options: FakeKoffiOptions = {}) {
  const { ulong = 8, packed = false, newer, lacks = [], instead = {} } = options
  const pointer = 8
  const width = packed ? 2 * ulong + pointer : 3 * pointer
  const memory: ArrayBufferLike[] = []
  const seen: { readonly name: string; readonly given: readonly Given[] }[] = []

  const address = (value: Uint8Array): bigint => {
    let at = memory.indexOf(value.buffer)
    if (at < 0) at = memory.push(value.buffer) - 1
    return BigInt(at + 1) * BIG + BigInt(value.byteOffset)
  }
  /** So many bytes at an address, or from the start of memory that was given. */
  const at = (given: Given | undefined, length: number): Buffer => {
    if (given instanceof Uint8Array) return Buffer.from(given.buffer, given.byteOffset, length)
    if (typeof given !== 'bigint' || given === 0n) throw new Pkcs11Error('memory', 0x07)
    const buffer = memory[Number(given / BIG) - 1]
    if (buffer === undefined) throw new Pkcs11Error('memory', 0x07)
    return Buffer.from(buffer, Number(given % BIG), length)
  }
  const read = (bytes: Buffer, offset: number): number =>
    ulong === 4 ? bytes.readUInt32LE(offset) : Number(bytes.readBigUInt64LE(offset))
  const write = (bytes: Buffer, offset: number, value: number): void => {
    if (ulong === 4) bytes.writeUInt32LE(value >>> 0, offset)
    else bytes.writeBigUInt64LE(BigInt(value), offset)
  }
  const put = (given: Given | undefined, value: number): void => write(at(given, ulong), 0, value)
  /** The fake's handles are four bytes, the most significant first, and four more. */
  const handle = <T>(given: Given | undefined): T => {
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setUint32(0, Number(given))
    return bytes as T
  }
  const numberOf = (own: Uint8Array): number => new DataView(own.buffer, own.byteOffset).getUint32(0)
  const pair = (bytes: Buffer, offset: number): Buffer => {
    const start = offset + (packed ? ulong : pointer)
    const length = read(bytes, start + pointer)
    return length === 0 ? Buffer.alloc(0) : at(bytes.readBigUInt64LE(start), length)
  }
  const attribute = (type: number, bytes: Buffer): AttributeValue => {
    if (FLAGS.includes(type)) return bytes[0] !== 0
    if (NUMBERS.includes(type)) return read(bytes, 0)
    if (type === CKA.LABEL) return bytes.toString()
    if (type === CKA.ALLOWED_MECHANISMS)
      return Array.from({ length: bytes.length / ulong }, (_, i) => read(bytes, i * ulong))
    if (type === CKA.WRAP_TEMPLATE || type === CKA.UNWRAP_TEMPLATE)
      return template(bytes, bytes.length / width)
    return Uint8Array.from(bytes)
  }
  const template = (given: Given | undefined, count: Given | undefined): Template => {
    const length = Number(count)
    if (length === 0) return []
    const bytes = at(given, length * width)
    return Array.from({ length }, (_, i) => {
      const type = read(bytes, i * width)
      return [type, attribute(type, pair(bytes, i * width))] as const
    })
  }
  const mechanism = (given: Given | undefined): Mechanism => {
    const bytes = at(given, width)
    const number = read(bytes, 0)
    const value = pair(bytes, 0)
    if (value.length === 0) return { mechanism: number }
    if (number === CKM.ECDH1_DERIVE) {
      // The KDF, then twice a length and an address; naturally aligned each field takes eight bytes.
      const second = packed ? ulong : pointer
      const gap = (packed ? ulong : pointer) - pointer
      const field = (offset: number): Buffer => {
        const length = read(value, offset)
        return length === 0 ? Buffer.alloc(0) : at(value.readBigUInt64LE(offset + pointer + gap), length)
      }
      const shared = field(second)
      const parameter = { kdf: read(value, 0), publicData: Uint8Array.from(field(second * 2 + pointer)) }
      return {
        mechanism: number,
        parameter: shared.length === 0 ? parameter : { ...parameter, sharedData: Uint8Array.from(shared) },
      }
    }
    const derives = [CKM.AES_ECB_ENCRYPT_DATA, CKM.DES3_ECB_ENCRYPT_DATA, CKM.XOR_BASE_AND_DATA]
    if (derives.includes(number as never)) {
      const derivationData = Uint8Array.from(at(value.readBigUInt64LE(0), read(value, pointer)))
      return { mechanism: number, parameter: { derivationData } }
    }
    if (number > 0x8000_0000) return { mechanism: number, parameter: read(value, 0) }
    return { mechanism: number, parameter: Uint8Array.from(value) }
  }
  /** Writes an answer where there is room for it, and how long it is. */
  const answer = (bytes: Uint8Array, out: Given | undefined, length: Given | undefined): void => {
    at(out, bytes.length).set(bytes)
    put(length, bytes.length)
  }
  const text = (bytes: Buffer, offset: number, length: number, value: string): number => {
    bytes.fill(0x20, offset, offset + length)
    bytes.write(value, offset)
    return offset + length
  }
  const session = (given: Given | undefined): SessionHandle => handle<SessionHandle>(given)
  const object = (given: Given | undefined): ObjectHandle => handle<ObjectHandle>(given)

  const functions: Readonly<Record<string, (...g: Given[]) => void>> = {
    C_Initialize: given => {
      const bytes = at(given, 6 * pointer)
      const flags = read(bytes, 4 * pointer)
      if (flags !== 2) throw new Pkcs11Error('C_Initialize', 0x0a)
      const text = bytes.readBigUInt64LE(4 * pointer + (packed ? ulong : pointer))
      const all = text === 0n ? undefined : Buffer.from(memory[Number(text / BIG) - 1] ?? new ArrayBuffer(0))
      const start = Number(text % BIG)
      token.C_Initialize(all?.toString('utf8', start, all.indexOf(0, start)))
    },
    C_Finalize: () => token.C_Finalize(),
    C_GetInfo: out => {
      const { description, manufacturer, version } = token.C_GetInfo()
      const bytes = at(out, 128)
      const after = text(bytes, 2, 32, manufacturer)
      const flags = packed ? after : Math.ceil(after / ulong) * ulong
      const end = text(bytes, flags + ulong, 32, description)
      const [major = 0, minor = 0] = version.split('.').map(Number)
      bytes[end] = major
      bytes[end + 1] = minor
    },
    C_GetSlotList: (_present, out, count) => {
      const slots = token.C_GetSlotList()
      if (out !== null) {
        const list = at(out, slots.length * ulong)
        for (const [i, slot] of slots.entries()) write(list, i * ulong, numberOf(slot))
      }
      put(count, slots.length)
    },
    C_GetTokenInfo: (slot, out) => {
      const info = token.C_GetTokenInfo(handle<SlotId>(slot))
      const bytes = at(out, 256)
      let end = 0
      for (const [length, value] of [
        [32, info.label],
        [32, info.manufacturer],
        [16, info.model],
        [16, info.serial],
      ] as const)
        end = text(bytes, end, length, value)
      for (const [i, value] of [info.flags, info.maxSessions, info.sessions].entries())
        write(bytes, end + i * ulong, value)
    },
    C_OpenSession: (slot, flags, _a, _b, out) =>
      put(out, numberOf(token.C_OpenSession(handle<SlotId>(slot), Number(flags)))),
    C_CloseSession: s => token.C_CloseSession(session(s)),
    C_GetSessionInfo: (s, out) => {
      const { state, flags } = token.C_GetSessionInfo(session(s))
      const bytes = at(out, 4 * ulong)
      for (const [i, value] of [0, state, flags].entries()) write(bytes, i * ulong, value)
    },
    C_Login: (s, user, pin, length) =>
      token.C_Login(session(s), Number(user), pin === null ? '' : at(pin, Number(length)).toString()),
    C_Logout: s => token.C_Logout(session(s)),
    C_CreateObject: (s, list, count, out) =>
      put(out, numberOf(token.C_CreateObject(session(s), template(list, count)))),
    C_CopyObject: (s, o, list, count, out) =>
      put(out, numberOf(token.C_CopyObject(session(s), object(o), template(list, count)))),
    C_DestroyObject: (s, o) => token.C_DestroyObject(session(s), object(o)),
    C_GetAttributeValue: (s, o, asked) => {
      const bytes = at(asked, width)
      const type = read(bytes, 0)
      const whole = token.C_GetAttributeValue(session(s), object(o), type)
      const value = NUMBERS.includes(type) ? whole.subarray(0, ulong) : whole
      const start = packed ? ulong : pointer
      const place = bytes.readBigUInt64LE(start)
      if (place !== 0n && value.length > 0) at(place, value.length).set(value)
      write(bytes, start + pointer, value.length)
    },
    C_SetAttributeValue: (s, o, list, count) =>
      token.C_SetAttributeValue(session(s), object(o), template(list, count)),
    C_FindObjectsInit: (s, list, count) => token.C_FindObjectsInit(session(s), template(list, count)),
    C_FindObjects: (s, out, max, count) => {
      const found = token.C_FindObjects(session(s), Number(max))
      const list = at(out, found.length * ulong)
      for (const [i, one] of found.entries()) write(list, i * ulong, numberOf(one))
      put(count, found.length)
    },
    C_FindObjectsFinal: s => token.C_FindObjectsFinal(session(s)),
    C_EncryptInit: (s, how, key) => token.C_EncryptInit(session(s), mechanism(how), object(key)),
    C_Encrypt: (s, data, length, out, written) =>
      answer(
        token.C_Encrypt(session(s), at(data, Number(length)), read(at(written, ulong), 0)),
        out ?? null,
        written,
      ),
    C_DecryptInit: (s, how, key) => token.C_DecryptInit(session(s), mechanism(how), object(key)),
    C_Decrypt: (s, data, length, out, written) =>
      answer(
        token.C_Decrypt(session(s), at(data, Number(length)), read(at(written, ulong), 0)),
        out ?? null,
        written,
      ),
    C_SignInit: (s, how, key) => token.C_SignInit(session(s), mechanism(how), object(key)),
    C_Sign: (s, data, length, out, written) =>
      answer(
        token.C_Sign(session(s), at(data, Number(length)), read(at(written, ulong), 0)),
        out ?? null,
        written,
      ),
    C_DigestInit: (s, how) => token.C_DigestInit(session(s), mechanism(how)),
    C_DigestUpdate: (s, data, length) => token.C_DigestUpdate(session(s), at(data, Number(length))),
    C_DigestKey: (s, key) => token.C_DigestKey(session(s), object(key)),
    C_DigestFinal: (s, out, written) =>
      answer(token.C_DigestFinal(session(s), read(at(written, ulong), 0)), out ?? null, written),
    C_GenerateKey: (s, how, list, count, out) =>
      put(out, numberOf(token.C_GenerateKey(session(s), mechanism(how), template(list, count)))),
    C_GenerateKeyPair: (s, how, list, count, own, ownCount, publicKey, privateKey) => {
      const made = token.C_GenerateKeyPair(
        session(s),
        mechanism(how),
        template(list, count),
        template(own, ownCount),
      )
      put(publicKey, numberOf(made.publicKey))
      put(privateKey, numberOf(made.privateKey))
    },
    C_WrapKey: (s, how, by, key, out, written) =>
      answer(
        token.C_WrapKey(session(s), mechanism(how), object(by), object(key), read(at(written, ulong), 0)),
        out ?? null,
        written,
      ),
    C_UnwrapKey: (s, how, by, wrapped, length, list, count, out) =>
      put(
        out,
        numberOf(
          token.C_UnwrapKey(
            session(s),
            mechanism(how),
            object(by),
            Uint8Array.from(at(wrapped, Number(length))),
            template(list, count),
          ),
        ),
      ),
    C_DeriveKey: (s, how, base, list, count, out) =>
      put(out, numberOf(token.C_DeriveKey(session(s), mechanism(how), object(base), template(list, count)))),
    C_GenerateRandom: (s, out, length) =>
      void at(out, Number(length)).set(token.C_GenerateRandom(session(s), Number(length))),
    C_SessionCancel: (s, flags) => token.C_SessionCancel?.(session(s), Number(flags)),
  }

  const native =
    (name: string): Native =>
    (...given) => {
      seen.push({ name, given })
      const other = instead[name]
      if (other !== undefined) return other(...given)
      try {
        functions[name]?.(...given)
        return 0
      } catch (error) {
        if (error instanceof Pkcs11Error) return error.returnValue
        throw error
      }
    }

  /** As koffi calls it: what does not fit the prototype would be read as something else, or is refused. */
  const typed =
    (types: Prototype, call: Native): Native =>
    (...given) => {
      const fits = types.map((type, i) =>
        type === 'void *'
          ? given[i] === null || typeof given[i] === 'bigint' || given[i] instanceof Uint8Array
          : typeof given[i] === 'bigint' || typeof given[i] === 'number',
      )
      if (given.length !== types.length || fits.includes(false)) throw new TypeError('other arguments')
      return call(...given)
    }

  const decode = (place: bigint, second: number | Prototype, type?: string): unknown => {
    if (typeof second === 'object') return typed(second, native(PLACES[Number(place % BIG)] ?? ''))
    const offset = second
    if (type === 'uint8_t') return newer === 3 ? 3 : 2
    // An interface: its name, its list.
    if (place === NEWER) return newer === 'null' ? null : LIST
    const number = (offset - (packed ? 2 : pointer)) / pointer
    return lacks.includes(PLACES[number] ?? '') ? 0n : (3n << 60n) + BigInt(number)
  }
  const library = {
    func: (name: string): Native => {
      if (name === 'dlopen') return () => 1
      // What a call takes beside its own arguments, it does not see.
      if (name === 'abs')
        return (...given) => {
          seen.push({ name, given })
          return 0
        }
      if (name === 'C_GetFunctionList')
        return (
          instead[name] ??
          (out => {
            at(out, pointer).writeBigUInt64LE(LIST)
            return 0
          })
        )
      if (newer === undefined) throw new Error('no such symbol')
      return (_name, _version, out) => {
        at(out, pointer).writeBigUInt64LE(NEWER)
        return newer === 'none' ? 0x54 : 0
      }
    },
  }
  const koffi = {
    load: (path: string | null) => {
      if (path?.includes('absent') === true) throw new Error(`${path}: cannot open shared object file`)
      return library
    },
    proto: (_result: string, types: Prototype) => types,
    array: (type: string, length: number) => ({ type, length }),
    struct: (members: object) => members,
    decode,
    address,
    sizeof: (type: string) => (type === 'void *' ? pointer : ulong),
  }
  return { koffi: options.bare === true ? { ...koffi, default: undefined } : { default: koffi }, seen }
}
