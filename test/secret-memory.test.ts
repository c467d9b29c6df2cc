/**
 * Secret memory has one birthplace, `base/bytes`. What is made in another way lies on V8's own heap or in a pool, is moved
 * or shared, and leaves a copy that nobody wipes. Whether an array holds a secret cannot be seen by a test, so every byte
 * array counts; what is public and made otherwise for a reason is in the table below.
 */
import { join, relative } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { ROOT, sourceProgram } from './support/public-api.js'

/** Made otherwise, and right so: the text of the expression as it is in the file, and why. */
const EXCEPTIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'src/base/bytes.ts': {
    'new Uint8Array(new SharedArrayBuffer(length))':
      'sharedBytes itself: two threads see it, V8 does not move it',
    'new Uint8Array(new ArrayBuffer(length))': 'the birthplace itself',
    'new ArrayBuffer(length)': 'the birthplace itself',
    'new Uint8Array(length)': 'memory for what is public',
    'Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)': 'a view, for what Buffer can do',
    'bufferOf(memory).write(text, encoding)': 'writeText itself',
    'overwritten.write(PUBLIC_TEXT.slice(0, length < 256 ? length : 256 + (length % 64)), encoding)':
      'writeText itself',
  },
  'src/backend/bound-key.ts': {
    'publicBytes(input.length)': 'an enciphered PIN block, which goes to whoever asked for it',
    'publicBytes(length)': 'an enciphered PIN block, which goes to whoever asked for it',
  },
  'src/primitives/p256.ts': {
    'publicRoom(POINT_BYTES)': 'a public point',
    'limbBytes.set(point.subarray(1))': 'a public point',
    "buffer.write(x, 1, 'base64url')": 'a public point',
    "buffer.write(y, 1 + COORDINATE_BYTES, 'base64url')": 'a public point',
    'lastGood.set(point)': 'a public point',
  },
  'src/jwe/header.ts': {
    "SCRATCH.write(segment, 'base64url')": 'a header',
    'SCRATCH.write(json)': 'a header',
  },
  'src/jwe/seal.ts': { "authenticated.write(header, 'latin1')": 'a header' },
  'src/jwe/compact.ts': {
    "buffer.write(protectedHeader, 'latin1')": 'a header',
    "buffer.write(iv, ivAt, 'base64url')": 'a part of a message that was sent',
    "buffer.write(tag, tagAt, 'base64url')": 'a part of a message that was sent',
    "buffer.write(ciphertext, ciphertextAt, 'base64url')": 'a part of a message that was sent',
    'publicRoom(ciphertextAt + base64urlBytes(ciphertext))': 'the parts of a message that was sent',
  },
  'src/backend/together.ts': {
    'publicBytes(length)': 'enciphered PIN blocks, side by side',
    'publicBytes(TOGETHER_BYTES)': 'an enciphered PIN block, which goes to whoever asked for it',
  },
  'src/backend/software/bitslice-memory.ts': {
    "Buffer.from(WASM, 'base64')": 'the code of a module: public',
  },
  'src/backend/pkcs11/binding/koffi-binding.ts': {
    'new Uint8Array(16_384)': 'zeros, to be written over a stack',
    'list.copy(own, 0, i * ulong)': 'addresses of functions',
  },
  'src/backend/pkcs11/binding/pkcs11js-binding.ts': {
    'Buffer.alloc(8)': 'CK_INVALID_HANDLE',
    'Buffer.alloc(size)': 'zeros, to be written over freed memory',
  },
  'src/backend/pkcs11/binding/values.ts': { 'Buffer.alloc(8)': 'an empty buffer with an address' },
  'src/backend/pkcs11/mechanisms/templates.ts': {
    'Uint8Array.of( 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, )': 'the name of a curve',
  },
  'src/backend/pkcs11/mechanisms/p256.ts': {
    'Uint8Array.of(0x04, point.length, ...point)': 'a public point',
    '...point': 'a public point',
    'Uint8Array.of(0, 0, 0, counter)': 'the counter of the KDF',
    "new TextEncoder().encode('issuer-pin-crypto pair test')": 'a text of our own',
  },
  'src/backend/pkcs11/mechanisms/cipher.ts': {
    'randomBytes(8)': 'a block that is no PIN block, to be refused by the token',
  },
  'src/backend/pkcs11/keys/roles.ts': {
    'new Uint8Array(randomBytes(ID_BYTES))': 'a CKA_ID',
    'randomBytes(ID_BYTES)': 'a CKA_ID',
    "Buffer.from(`${x9143}${mode}${ALGORITHM_CODES[algorithm]}`, 'latin1')": 'the head of a CKA_ID',
    'Buffer.from(id.subarray(0, TAG_BYTES))': 'the head of a CKA_ID',
    "id.set(Buffer.from(`${x9143}${mode}${ALGORITHM_CODES[algorithm]}`, 'latin1'))": 'the head of a CKA_ID',
    'Uint8Array.of(0x4b, 0x31)': 'the tail of a CKA_ID',
  },
  'src/backend/pkcs11/keys/key-table.ts': { "Buffer.from(id, 'hex')": 'a CKA_ID' },
  'src/backend/pkcs11/key-store.ts': { "Buffer.from(id, 'hex')": 'a CKA_ID' },
  'src/backend/pkcs11/probe/probe.ts': {
    'expected.slice(0, 8)': 'a published test value',
    'Uint8Array.of(0)': 'a CKA_ID',
  },
  'src/backend/pkcs11/probe/probe-operations.ts': {
    'answer.slice(0, mac.length)': 'a MAC of a published message',
  },
  'src/backend/pkcs11/session/options.ts': { "Buffer.from(id, 'latin1')": 'a CKA_ID' },
  'src/pin/pin-value.ts': {
    'Array.from(digits, of)': 'an offset or a PVV, which is kept beside the card',
    'Uint8Array.from(value, Number)': 'an offset or a PVV, which is kept beside the card',
  },
  'src/cli/onboard.ts': {
    'Uint8Array.of(1, 0, 1)': 'an exponent',
    "Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))":
      'a view of what WebCrypto hands out, of more than 64 bytes, which is wiped; the key is written to a file as text',
    'Buffer.from(webcrypto.getRandomValues(new Uint8Array(15)))': 'a serial number',
    'new Uint8Array(15)': 'a serial number',
  },
  'src/tools/search/judge.ts': {
    'base.values.random.map(byte => byte ^ 0x5a)': 'another random number than the sample’s',
    'value.map(byte => byte ^ 0x5a)': 'another value than the sample’s',
  },
  'src/stores/row-sealer.ts': { 'Uint8Array.of(FORM, kid.length)': 'the head of a seal' },
  'src/stores/sql/sealed.ts': {
    "Uint8Array.from(Buffer.from(after, 'hex'))": 'where a page begins: the digest of a request',
    "Buffer.from(after, 'hex')": 'where a page begins: the digest of a request',
    'Buffer.from(seal.subarray(2, 2 + Number(seal[1])))': 'the kid in a seal',
  },
  'src/cli/doctor.ts': {
    "Buffer.concat([ Buffer.of(4), Buffer.from('gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0', 'base64url'), Buffer.from('SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps', 'base64url'), ])":
      'a published point',
    'Buffer.of(4)': 'a published point',
    "Buffer.from('gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0', 'base64url')": 'a published point',
    "Buffer.from('SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps', 'base64url')": 'a published point',
    'new Uint8Array(64)': 'zeros to be enciphered',
    'new Uint8Array(8)': 'zeros to be enciphered',
    'new Uint8Array(0)': 'nothing',
    'randomBytes(3)': 'a part of the name of a test key',
  },
  'src/d1/endpoints/audit.ts': { "Buffer.from(signature, 'base64url')": 'a signature over an event' },
  'src/d1/endpoints/callers.ts': { "Buffer.from(certificate.sha256, 'hex')": 'the hash of a certificate' },
  'src/d1/endpoints/peer.ts': { "Buffer.from(base64, 'base64')": 'a certificate' },
  'src/stores/pan-sealer.ts': {
    'Uint8Array.of(formOf(key), kid.length)': 'the head of a sealed PAN',
    'randomBytes(NONCE_BYTES)': 'a nonce, which is kept in clear beside what it sealed',
  },
  'src/stores/sql/cards.ts': { 'randomBytes(12)': 'the revision of a row' },
  'src/primitives/pin.ts': { "this.#digits().join('')": 'Pin.reveal: a string is what was asked for' },
  'src/primitives/pan.ts': {
    "this.#digits().join('')": 'Pan.reveal: a string is what was asked for',
    "digits.subarray(-4).join('')": 'the four digits that a display may show',
  },
}

/** What takes no part: published test values only. */
const OUTSIDE = /^src\/testing\//

const TYPED_ARRAY = /^(?:Uint8Array|Buffer)$/
const BUFFER = /^(?:ArrayBuffer|SharedArrayBuffer)$/
const COPYING: ReadonlySet<string> = new Set(
  'slice map filter join toReversed toSorted with toJSON'.split(' '),
)
/** These make nothing, but leave what they copied in registers, which V8 writes down: `copyInto` and `writeText` are for that. */
const INTO: ReadonlySet<string> = new Set(['set', 'copyWithin', 'copy', 'write'])
const STATIC: ReadonlySet<string> = new Set('from of alloc allocUnsafe allocUnsafeSlow concat'.split(' '))

const PROGRAM = sourceProgram()
const options = PROGRAM.getCompilerOptions()

/** The expressions in a program's own files that make a byte array, or numbers of one, outside `base/bytes`' makers. */
function makers(program: ts.Program, base: string): readonly (readonly [file: string, text: string])[] {
  const checker = program.getTypeChecker()
  const found: (readonly [string, string])[] = []
  /** The type by its name: to write all of one down, an array of objects say, takes longer than to find it. */
  const isA = (names: RegExp, node: ts.Node): boolean => {
    const type = checker.getNonNullableType(checker.getTypeAtLocation(node))
    return (type.isUnion() ? type.types : [type]).every(({ symbol }) => names.test(symbol?.name))
  }
  const isBytes = (node: ts.Node): boolean => isA(TYPED_ARRAY, node)

  function makesBytes(node: ts.Node): boolean {
    if (ts.isNewExpression(node)) return makesByNew(node)
    if (ts.isSpreadElement(node)) return isBytes(node.expression)
    if (!ts.isCallExpression(node)) return false
    const { expression: callee } = node
    if (ts.isIdentifier(callee)) return /^(?:randomBytes|publicBytes|publicRoom)$/.test(callee.text)
    if (!ts.isPropertyAccessExpression(callee)) return false
    const name = callee.name.text
    const on = callee.expression
    if (on.getText() === 'Array' && name === 'from') return node.arguments.some(isBytes)
    if (/^(?:Uint8Array|Buffer)$/.test(on.getText())) return STATIC.has(name)
    if (COPYING.has(name)) return isBytes(on)
    if (INTO.has(name)) return isBytes(on) && !node.arguments.slice(0, 1).some(ts.isArrayLiteralExpression)
    return name === 'encode' && isA(/^TextEncoder$/, on)
  }

  function makesByNew({ expression, arguments: [first] = [] as never }: ts.NewExpression): boolean {
    if (expression.getText() === 'ArrayBuffer') return true
    if (!/^(?:Uint8Array|Buffer)$/.test(expression.getText())) return false
    // A view of memory that exists already makes nothing.
    return first === undefined || ts.isNewExpression(first) || !isA(BUFFER, first)
  }

  for (const source of program.getSourceFiles()) {
    const file = relative(base, source.fileName)
    if (source.isDeclarationFile || file.startsWith('..') || OUTSIDE.test(file)) continue
    const visit = (node: ts.Node): void => {
      if (makesBytes(node)) found.push([file, node.getText().replace(/\s+/g, ' ')])
      ts.forEachChild(node, visit)
    }
    visit(source)
  }
  return found
}

const FOUND = makers(PROGRAM, ROOT)

test('byte arrays are made by base/bytes, but for what the table says', () => {
  const wrong = FOUND.filter(([file, text]) => EXCEPTIONS[file]?.[text] === undefined)
  expect(wrong.map(([file, text]) => `${file}: ${text}`)).toEqual([])
})

test('the table has no row that nothing needs any more', () => {
  const stale = Object.entries(EXCEPTIONS).flatMap(([file, rows]) =>
    Object.keys(rows).filter(text => !FOUND.some(([where, what]) => where === file && what === text)),
  )
  expect(stale).toEqual([])
})

test('the rule sees each way to make one, and lets views and text pass', () => {
  const bad = [
    'new Uint8Array(8)',
    'new Uint8Array([1])',
    'new Uint8Array(bytes)',
    'new Uint8Array(new ArrayBuffer(8))',
    'new ArrayBuffer(8)',
    'Uint8Array.from([1])',
    'Uint8Array.of(1)',
    "Buffer.from('x')",
    'Buffer.alloc(8)',
    'Buffer.concat([])',
    'bytes.slice(1)',
    'maybe?.slice(1)',
    'bytes.map(byte => byte)',
    "bytes.join('')",
    'Array.from(bytes)',
    '...bytes',
    "new TextEncoder().encode('x')",
    'randomBytes(8)',
    'publicBytes(8)',
    'bytes.set(bytes)',
    'maybe?.set(bytes, 2)',
    'bytes.copyWithin(0, 1)',
  ]
  const good = [
    'bytes.subarray(1)',
    'bytes.set([1, 2], 3)',
    'new Map().set(bytes, 1)',
    'new Uint8Array(memory, 0, 8)',
    "'text'.slice(1)",
    '[1].map(n => n)',
    'Array.from([1])',
    '[...[1]]',
    '...[bytes]',
    '[bytes].map(part => part)',
  ]
  const name = join(ROOT, 'src/a-case.ts')
  const lines = [...bad, ...good].map(line => `use(${line})`)
  const text = `declare function use(...x: unknown[]): void
declare function randomBytes(n: number): Uint8Array
declare function publicBytes(n: number): Uint8Array
declare const bytes: Uint8Array
declare const maybe: Uint8Array | undefined
declare const memory: ArrayBuffer
${lines.join('\n')}
export {}`
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = file => file === name || fileExists(file)
  host.getSourceFile = (file, ...rest) =>
    file === name
      ? ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true)
      : (PROGRAM.getSourceFile(file) ?? getSourceFile(file, ...rest))
  const found = makers(ts.createProgram([name], { ...options, noEmit: true }, host, PROGRAM), ROOT)
  expect(new Set(found.map(([, what]) => what))).toEqual(new Set(bad))
})
