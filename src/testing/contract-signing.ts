/** ES256. A signature is another one each time, so what comes back is verified with node:crypto, and by nothing of ours. */
import assert from 'node:assert/strict'
import { createPublicKey, verify } from 'node:crypto'
import type { Backend } from '../backend/backend.js'
import { type Key, operationsOf } from '../backend/key.js'
import {
  assertRejects,
  bindContractKey,
  type ContractCase,
  type ContractContext,
  type ContractKey,
  contractKey,
} from './contract-helpers.js'
import { patternOf } from './contract-operations.js'

/** The JWS signing input of RFC 7515, A.3.1. */
const JWS_INPUT: Uint8Array = new TextEncoder().encode(
  'eyJhbGciOiJFUzI1NiJ9.' +
    'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ',
)

const MESSAGES: readonly { name: string; message: Uint8Array }[] = [
  { name: 'the signing input of RFC 7515, A.3', message: JWS_INPUT },
  { name: 'an empty message', message: new Uint8Array(0) },
  { name: 'one byte', message: patternOf(1) },
  { name: '32 bytes, as many as a digest', message: patternOf(32) },
  { name: '65,536 bytes', message: patternOf(65_536) },
]

/** For calls a TypeScript program would not compile. */
const untyped = <T>(value: unknown): T => value as T

/** Every 128th half of a signature begins with a zero byte: whoever drops it is found out among so many. */
const MANY = 512

export function signingCases(context: ContractContext): readonly ContractCase[] {
  return [
    ...MESSAGES.map(({ name, message }) => ({
      name: `SIGN-1: a signature over ${name} verifies under the known public key`,
      run: () =>
        signing(context, async key => {
          const { material } = contractKey('SIGN-1')
          assert.ok(typeof material !== 'string')
          const { x, y } = material
          assert.deepEqual({ ...key.publicJwk }, { kty: 'EC', crv: 'P-256', x, y })
          assertSignature(key, message, await operationsOf(key).sign(message))
        }),
    })),
    {
      name: 'two signatures over one message both verify, and verify over no other message',
      run: () =>
        signing(context, async key => {
          const signatures = [
            await operationsOf(key).sign(JWS_INPUT),
            await operationsOf(key).sign(JWS_INPUT),
          ]
          for (const signature of signatures) {
            assertSignature(key, JWS_INPUT, signature)
            assert.ok(!isSignature(key, patternOf(8), signature))
          }
        }),
    },
    {
      name: `${MANY} signatures at once: each verifies over its own message, and no r comes twice`,
      run: () => signing(context, manySignatures),
    },
    {
      name: 'the message is read before sign returns: wiping it at once changes nothing',
      run: () =>
        signing(context, async key => {
          const message = Uint8Array.from(JWS_INPUT)
          const pending = operationsOf(key).sign(message)
          message.fill(0)
          assertSignature(key, JWS_INPUT, await pending)
        }),
    },
    {
      name: 'sign refuses what is no Uint8Array with ERR_ARGUMENT, and 65,537 bytes with ERR_LENGTH',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'SIGN-1')
        for (const message of [undefined, 'message', [1, 2, 3], new ArrayBuffer(8)]) {
          await assertRejects(() => operationsOf(key).sign(untyped<Uint8Array>(message)), 'ERR_ARGUMENT')
        }
        await assertRejects(() => operationsOf(key).sign(new Uint8Array(65_537)), 'ERR_LENGTH')
      },
    },
    {
      name: 'the same P-256 key is not for key agreement under one kid and for signing under another: ERR_KEY_USAGE',
      run: () => twoUsages(context),
    },
    {
      name: 'close waits for a signature in flight; afterwards sign is ERR_BACKEND_CLOSED',
      run: async () => {
        await using backend = await context.open([contractKey('SIGN-1')])
        await signingOn(backend, async key => {
          const pending = operationsOf(key).sign(JWS_INPUT)
          const closed = backend.close()
          assertSignature(key, JWS_INPUT, await pending)
          await closed
          await assertRejects(() => operationsOf(key).sign(JWS_INPUT), 'ERR_BACKEND_CLOSED')
        })
      },
    },
  ]
}

/** Runs on the shared backend; one that says it cannot sign must refuse with a code, under a key it binds all the same. */
async function signing(context: ContractContext, use: (key: Key) => Promise<void>): Promise<void> {
  const backend = await context.shared()
  await signingOn(backend, use)
}

async function signingOn(backend: Backend, use: (key: Key) => Promise<void>): Promise<void> {
  const key = await bindContractKey(backend, 'SIGN-1')
  if (backend.capabilities().signing === 'native') return use(key)
  await assertRejects(
    () => operationsOf(key).sign(JWS_INPUT),
    ['ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_BY_TOKEN'],
  )
}

async function manySignatures(key: Key): Promise<void> {
  const messages = Array.from({ length: MANY }, (_, i) => Uint8Array.of(i, i >> 8, 7))
  const signed = await Promise.all(
    messages.map(async message => ({ message, signature: await operationsOf(key).sign(message) })),
  )
  const seen = new Set<string>()
  for (const { message, signature } of signed) {
    assertSignature(key, message, signature)
    seen.add(Buffer.from(signature.subarray(0, 32)).toString('hex'))
  }
  // Two messages signed with one nonce give the private key away.
  assert.equal(seen.size, MANY, 'two messages were signed with one nonce')
}

async function twoUsages(context: ContractContext): Promise<void> {
  const signer = contractKey('SIGN-1')
  const twin: ContractKey = { ...signer, kid: 'SIGN-TWIN', usage: 'jwe-key-agreement' }
  await assertRejects(async () => {
    await using backend = await context.open([signer, twin])
    await backend.bind({ kid: signer.kid, usage: signer.usage })
    await backend.bind({ kid: twin.kid, usage: twin.usage })
  }, 'ERR_KEY_USAGE')
}

function assertSignature(key: Key, message: Uint8Array, signature: Uint8Array): void {
  assert.ok(signature instanceof Uint8Array && !Buffer.isBuffer(signature), 'not a plain Uint8Array')
  assert.equal(signature.length, 64, 'a signature is r ‖ s, 32 bytes each')
  assert.equal(signature.buffer.byteLength, 64, 'a slice of a larger buffer')
  assert.ok(isSignature(key, message, signature), 'the signature does not verify')
}

function isSignature(key: Key, message: Uint8Array, signature: Uint8Array): boolean {
  const { publicJwk } = key
  assert.ok(publicJwk !== undefined, 'a key for signing shows its public half')
  const publicKey = createPublicKey({ key: { ...publicJwk }, format: 'jwk' })
  return verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)
}
