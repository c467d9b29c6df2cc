/**
 * Worker threads come and go, with a backend each, while the main thread works on: no crash, and the library stays
 * loaded. (A crash here ends the whole test process.)
 */

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Backend } from '../src/index.js'
import { pkcs11Backend } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { provision } from './provision.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

describeSoftHsm('worker threads', () => {
  const options = { ...makeToken('worker'), composedMac: true }

  /** Starts a worker, waits for its answer, does something, and lets it end. */
  async function work(close: boolean, meanwhile?: () => Promise<void>): Promise<string> {
    const worker = new Worker(new URL('children/worker.mjs', import.meta.url), {
      workerData: { module: options.module, token: options.token, pin: USER_PIN, close },
    })
    const [answer] = await once(worker, 'message')
    await meanwhile?.()
    const exit = once(worker, 'exit')
    worker.postMessage('goodbye')
    expect(await exit).toEqual([0])
    return Buffer.from(answer).toString('hex')
  }

  test('workers alone, one after the other: the library outlives them', async () => {
    await provision(options, CONTRACT_KEYS)
    for (const close of [true, false, true]) expect(await work(close)).toBe('96a0cbc66c383c6f')
    if (process.platform === 'linux') {
      expect(readFileSync('/proc/self/maps', 'utf8')).toContain((SOFTHSM_MODULE ?? '').split('/').at(-1))
    }
  })

  test('beside a main thread that works on', async () => {
    await using backend = await pkcs11Backend(options)
    const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    let working = true
    const main = (async () => {
      while (working) {
        expect((await operationsOf(key).encipher(new Uint8Array(8)))[0]).toBe(0x96)
        await new Promise(resolve => setImmediate(resolve))
      }
    })()
    const answers = await Promise.all([true, true, false].map(close => work(close))).finally(() => {
      working = false
    })
    await main
    expect(new Set(answers)).toEqual(new Set(['96a0cbc66c383c6f']))
    expect((await backend.health()).ok).toBe(true)
  })

  test('a worker that opened the token first takes nobody with it', async () => {
    const opened: Backend[] = []
    await work(true, async () => {
      opened.push(await pkcs11Backend(options))
    })
    for (const backend of opened) {
      const key = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
      expect((await operationsOf(key).encipher(new Uint8Array(8)))[0]).toBe(0x96)
      expect((await backend.health()).ok).toBe(true)
      await backend.close()
    }
    expect(opened.length).toBe(1)
  })
})
