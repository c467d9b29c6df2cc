/** Binds and uses of keys, as they are published for whoever records them. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { decipherPin, encipherPin, Pan, Pin } from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { failure } from '../support/errors.js'

const CHANNEL = 'issuer-pin-crypto:keys'
const events: unknown[] = []
const take = (event: unknown): void => void events.push(event)
beforeEach(() => {
  events.length = 0
  subscribe(CHANNEL, take)
})
afterEach(() => void unsubscribe(CHANNEL, take))

const key = { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
const material = '0123456789ABCDEFFEDCBA9876543210'

test('a bind, a PIN enciphered and deciphered, and a bind that is refused: an event each, without a secret', async () => {
  await using backend = await softwareBackend({ keys: [{ ...key, material }] })
  const bound = await backend.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
  const pan = Pan.from('9999990123456789')
  const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: bound })
  await decipherPin({ block, pan, format: 0, key: bound })
  await failure(() => backend.bind({ kid: 'NONE', usage: 'pin-encryption' }), 'ERR_KEY_NOT_FOUND')
  const of = { kid: 'PEK', usage: 'pin-encryption', mode: 'B' }
  expect(events).toEqual([
    { event: 'bind', ...of, outcome: 'success' },
    { event: 'use', ...of, operation: 'encipher', blocks: 1 },
    { event: 'use', ...of, operation: 'decipher', blocks: 1 },
    { ...of, event: 'bind', kid: 'NONE', outcome: 'failed', code: 'ERR_KEY_NOT_FOUND' },
  ])
  expect(JSON.stringify(events)).not.toMatch(/4711|9999990123456789|0123456789ABCDEF/)
})

test('where nobody listens, nothing is published', async () => {
  unsubscribe(CHANNEL, take)
  await using backend = await softwareBackend({ keys: [{ ...key, material }] })
  await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
  expect(events).toEqual([])
})
