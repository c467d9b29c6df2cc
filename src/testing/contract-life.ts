/** The life of a backend: concurrency, abort, closing, and inputs that are wiped at once. */
import assert from 'node:assert/strict'
import type { Backend } from '../backend/backend.js'
import type { ContentKeyRequest, MacRequest } from '../backend/driver.js'
import { operationsOf } from '../backend/key.js'
import type { CallOptions } from '../base/arguments.js'
import {
  assertBytes,
  assertRejects,
  bindContractKey,
  bytes,
  type ContractCase,
  type ContractContext,
  contractKey,
} from './contract-helpers.js'

const CLEAR = '13BAD542F3652D67'
const ENCIPHERED = '908E543CF2CB254F'

/** NIST SP 800-38B, appendix D.1, second example. */
const CMAC: MacRequest = { algorithm: 'cmac', padding: 'none' }
const CMAC_MESSAGE = '6BC1BEE22E409F96E93D7E117393172A'
const CMAC_ANSWER = '070A16B46B4D4144F79BDD9DD04A287C'

/** RFC 7518, appendix C. */
const BOB_ANSWER = '56AA8DEAF8236D205C2228CD71A7101A'
const bobRequest = (): ContentKeyRequest => ({
  ephemeralPublicKey: bytes(
    '04808D060082C176EED3E776A4AC598CC8672C1779F974EECC9B03411CA5B9495D' +
      '48B5BFC527DFCE53D6AC7115237D031CCFF87A0570B77350A9E503EE7305A69B',
  ),
  otherInfo: bytes('000000074131323847434D00000005416C69636500000003426F6200000080'),
  length: 16,
})

export function lifeCases(context: ContractContext): readonly ContractCase[] {
  return [
    {
      name: 'inputs are read before the call returns: wiping them at once changes nothing',
      run: () => wipedInputs(context),
    },
    { name: '200 concurrent mixed operations each give their own answer', run: () => concurrency(context) },
    {
      name: 'an aborted signal ends every operation with ERR_ABORTED, reason as cause',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'PEK-2')
        const options: CallOptions = { signal: AbortSignal.abort('no longer wanted') }
        const calls = [
          () => backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }, options),
          () => operationsOf(key).encipher(bytes(CLEAR), options),
          () => operationsOf(key).decipher(bytes(CLEAR), options),
          () => operationsOf(key).reencipher(key, bytes(CLEAR), options),
          async () => operationsOf(await bindContractKey(backend, 'CMAC-A')).mac(CMAC, bytes(CLEAR), options),
          async () =>
            operationsOf(await bindContractKey(backend, 'JWE-BOB')).deriveContentKey(bobRequest(), options),
          async () => operationsOf(await bindContractKey(backend, 'SIGN-1')).sign(bytes(CLEAR), options),
          () => backend.randomBytes(8, options),
          () => backend.health(options),
        ]
        for (const call of calls) {
          const { cause } = await assertRejects(call, 'ERR_ABORTED')
          assert.equal(cause, 'no longer wanted')
        }
        assertBytes(await operationsOf(key).encipher(bytes(CLEAR)), ENCIPHERED, 'after the aborts')
      },
    },
    {
      name: 'options that are not { signal: AbortSignal } are refused with ERR_ARGUMENT',
      run: async () => {
        const backend = await context.shared()
        const signal = new AbortController().signal
        for (const options of ['soon', { signal: 'now' }, { signal: {} }, signal, { signal, sginal: 1 }]) {
          await assertRejects(() => backend.randomBytes(8, options as CallOptions), 'ERR_ARGUMENT')
        }
      },
    },
    {
      name: 'close waits for what is in flight; afterwards everything is ERR_BACKEND_CLOSED',
      run: () => closing(context),
    },
    {
      name: 'closing twice, at once or later, resolves; so does leaving an `await using` block after it',
      run: async () => {
        await using backend = await context.open([contractKey('PEK-2')])
        await Promise.all([backend.close(), backend.close()])
        await backend.close()
      },
    },
    {
      name: 'a second backend on the same keys works after the first one is closed',
      run: async () => {
        const first = await context.open([contractKey('PEK-2')])
        await first.close()
        await using second = await context.open([contractKey('PEK-2')])
        const key = await bindContractKey(second, 'PEK-2')
        assertBytes(await operationsOf(key).encipher(bytes(CLEAR)), ENCIPHERED, 'second backend')
      },
    },
  ]
}

/** Every operation that takes bytes, its inputs wiped as soon as the promise is there. */
async function wipedInputs(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const two = await bindContractKey(backend, 'PEK-2')
  const three = await bindContractKey(backend, 'PEK-3')
  const bob = await bindContractKey(backend, 'JWE-BOB')
  const cmac = await bindContractKey(backend, 'CMAC-A')
  const underThree = Buffer.from(await operationsOf(three).encipher(bytes(CLEAR))).toString('hex')
  const wiped = <T>(input: Uint8Array[], call: () => T): T => {
    const result = call()
    for (const buffer of input) buffer.fill(0)
    return result
  }
  const starts: readonly (readonly [string, () => Promise<Uint8Array>, string])[] = [
    ['encipher', onOne(CLEAR, input => operationsOf(two).encipher(input)), ENCIPHERED],
    ['decipher', onOne(ENCIPHERED, input => operationsOf(two).decipher(input)), CLEAR],
    ['reencipher', onOne(underThree, input => operationsOf(three).reencipher(two, input)), ENCIPHERED],
    ['mac', onOne(CMAC_MESSAGE, input => operationsOf(cmac).mac(CMAC, input)), CMAC_ANSWER],
    [
      'deriveContentKey',
      () => {
        const request = bobRequest()
        const { ephemeralPublicKey, otherInfo } = request
        return wiped([ephemeralPublicKey, otherInfo], () => operationsOf(bob).deriveContentKey(request))
      },
      BOB_ANSWER,
    ],
  ]
  const { macs, keyAgreement } = backend.capabilities()
  for (const [name, start, answer] of starts) {
    if (name === 'mac' && macs.cmac === 'none') continue
    if (name === 'deriveContentKey' && keyAgreement === 'none') continue
    const calls = Array.from({ length: 16 }, start)
    for (const out of await Promise.all(calls)) assertBytes(out, answer, name)
  }

  function onOne(hex: string, call: (input: Uint8Array) => Promise<Uint8Array>): () => Promise<Uint8Array> {
    return () => {
      const input = bytes(hex)
      return wiped([input], () => call(input))
    }
  }
}

async function concurrency(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const two = await bindContractKey(backend, 'PEK-2')
  const three = await bindContractKey(backend, 'PEK-3')
  const block = (i: number): Uint8Array => Uint8Array.of(i, i >> 8, 3, 4, 5, 6, 7, i)
  const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex')
  const cmac = await bindContractKey(backend, 'CMAC-A')
  const bob = await bindContractKey(backend, 'JWE-BOB')
  const { macs, keyAgreement } = backend.capabilities()
  const [cmacWorks, agrees] = [macs.cmac !== 'none', keyAgreement !== 'none']
  const operations: readonly ((i: number) => Promise<Uint8Array>)[] = [
    i => operationsOf(two).encipher(block(i)),
    i => operationsOf(three).decipher(block(i)),
    i => operationsOf(two).reencipher(three, block(i)),
    i => (cmacWorks ? operationsOf(cmac).mac(CMAC, block(i)) : operationsOf(three).encipher(block(i))),
    i =>
      agrees
        ? operationsOf(bob).deriveContentKey({ ...bobRequest(), otherInfo: block(i) })
        : operationsOf(two).encipher(block(i)),
    async () => Uint8Array.of((await backend.randomBytes(8)).length),
  ]
  const calls = Array.from({ length: 34 }, (_, i) =>
    operations.map(operation => async () => hex(await operation(i))),
  ).flat()
  const together = await Promise.all(calls.map(call => call()))
  const alone: string[] = []
  for (const call of calls) alone.push(await call())
  assert.deepEqual(together, alone)
}

async function closing(context: ContractContext): Promise<void> {
  const backend: Backend = await context.open([contractKey('PEK-2')])
  const key = await bindContractKey(backend, 'PEK-2')
  const inFlight = Array.from({ length: 20 }, () => operationsOf(key).encipher(bytes(CLEAR)))
  const closed = backend.close()
  await assertRejects(() => operationsOf(key).encipher(bytes(CLEAR)), 'ERR_BACKEND_CLOSED')
  for (const out of await Promise.all(inFlight)) assertBytes(out, ENCIPHERED, 'in flight at close')
  await closed
  const calls = [
    () => backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }),
    () => operationsOf(key).encipher(bytes(CLEAR)),
    () => operationsOf(key).decipher(bytes(CLEAR)),
    () => operationsOf(key).reencipher(key, bytes(CLEAR)),
    () => backend.randomBytes(8),
    () => backend.health(),
  ]
  for (const call of calls) await assertRejects(call, 'ERR_BACKEND_CLOSED')
}
