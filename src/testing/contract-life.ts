import assert from 'node:assert/strict'
import type { Backend, CallOptions } from '../backend/backend.js'
import type { ContractCase, ContractContext } from './contract.js'
import { assertBytes, assertRejects, bindContractKey, bytes, contractKey } from './contract-helpers.js'

const CLEAR = '13BAD542F3652D67'
const ENCIPHERED = '908E543CF2CB254F'

export function lifeCases(context: ContractContext): readonly ContractCase[] {
  return [
    {
      name: 'inputs are read before the call returns: wiping them at once changes nothing',
      run: async () => {
        const backend = await context.shared()
        const key = await bindContractKey(backend, 'PEK-2')
        const calls = Array.from({ length: 32 }, () => {
          const input = bytes(CLEAR)
          const call = backend.encipherBlocks(key, input)
          input.fill(0)
          return call
        })
        for (const out of await Promise.all(calls)) assertBytes(out, ENCIPHERED, 'encipherBlocks')
      },
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
          () => backend.encipherBlocks(key, bytes(CLEAR), options),
          () => backend.decipherBlocks(key, bytes(CLEAR), options),
          () => backend.randomBytes(8, options),
          () => backend.health(options),
        ]
        for (const call of calls) {
          await assertRejects(call, 'ERR_ABORTED')
          await call().catch((error: Error) => assert.equal(error.cause, 'no longer wanted'))
        }
        assertBytes(await backend.encipherBlocks(key, bytes(CLEAR)), ENCIPHERED, 'after the aborts')
      },
    },
    {
      name: 'options that are not { signal: AbortSignal } are refused with ERR_ARGUMENT',
      run: async () => {
        const backend = await context.shared()
        for (const options of ['soon', { signal: 'now' }, { signal: {} }]) {
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
        assertBytes(await second.encipherBlocks(key, bytes(CLEAR)), ENCIPHERED, 'second backend')
      },
    },
  ]
}

async function concurrency(context: ContractContext): Promise<void> {
  const backend = await context.shared()
  const two = await bindContractKey(backend, 'PEK-2')
  const three = await bindContractKey(backend, 'PEK-3')
  const answers = new Map<string, string>()
  const block = (i: number): Uint8Array => Uint8Array.of(i, i >> 8, 3, 4, 5, 6, 7, i)
  const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex')
  const operation = async (i: number): Promise<string> => {
    if (i % 4 === 0) return hex(await backend.encipherBlocks(two, block(i)))
    if (i % 4 === 1) return hex(await backend.decipherBlocks(three, block(i)))
    if (i % 4 === 2) return hex(await backend.reencipherBlocks(two, three, block(i)))
    return String((await backend.randomBytes(8)).length)
  }
  const indices = Array.from({ length: 200 }, (_, i) => i)
  const together = await Promise.all(indices.map(operation))
  for (const i of indices) answers.set(`${i}`, await operation(i))
  assert.deepEqual(together, [...answers.values()])
}

async function closing(context: ContractContext): Promise<void> {
  const backend: Backend = await context.open([contractKey('PEK-2')])
  const key = await bindContractKey(backend, 'PEK-2')
  const inFlight = Array.from({ length: 20 }, () => backend.encipherBlocks(key, bytes(CLEAR)))
  const closed = backend.close()
  await assertRejects(() => backend.encipherBlocks(key, bytes(CLEAR)), 'ERR_BACKEND_CLOSED')
  for (const out of await Promise.all(inFlight)) assertBytes(out, ENCIPHERED, 'in flight at close')
  await closed
  const calls = [
    () => backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' }),
    () => backend.encipherBlocks(key, bytes(CLEAR)),
    () => backend.decipherBlocks(key, bytes(CLEAR)),
    () => backend.reencipherBlocks(key, key, bytes(CLEAR)),
    () => backend.randomBytes(8),
    () => backend.health(),
  ]
  for (const call of calls) await assertRejects(call, 'ERR_BACKEND_CLOSED')
}
