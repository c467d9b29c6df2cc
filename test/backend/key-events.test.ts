/** Binds and uses of keys, as they are published for whoever records them. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  type BackendDriver,
  BackendError,
  decipherPin,
  encipherPin,
  type Key,
  openBackend,
  Pan,
  Pin,
} from '../../src/index.js'
import { softwareBackend } from '../../src/software.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { openStoreOn } from '../pkcs11/support.js'
import { failure } from '../support/errors.js'
import { slowDriver as heldDriver } from '../support/slow-driver.js'

const CHANNEL = 'issuer-pin-crypto:keys'
const events: unknown[] = []
const take = (event: unknown): void => void events.push(event)
beforeEach(() => {
  events.length = 0
  subscribe(CHANNEL, take)
})
afterEach(() => void unsubscribe(CHANNEL, take))

const key = { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
const durationMs = expect.any(Number)
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
    { event: 'bind', ...of, queue: 0, outcome: 'success', durationMs },
    { event: 'use', ...of, operation: 'encipher', blocks: 1 },
    { event: 'used', ...of, operation: 'encipher', blocks: 1, queue: 0, outcome: 'success', durationMs },
    { event: 'use', ...of, operation: 'decipher', blocks: 1 },
    { event: 'used', ...of, operation: 'decipher', blocks: 1, queue: 0, outcome: 'success', durationMs },
    { ...of, event: 'bind', kid: 'NONE', queue: 0, outcome: 'failed', code: 'ERR_KEY_NOT_FOUND', durationMs },
  ])
  expect(JSON.stringify(events)).not.toMatch(/4711|9999990123456789|0123456789ABCDEF/)
})

test('a use that fails, is refused or comes too late ends as failed, with its code', async () => {
  const reports = (code: string) => ({ event: 'used', outcome: 'failed', code, durationMs })
  const pan = Pan.from('9999990123456789')
  const pin = Pin.from('4711')
  const refusing = () => {
    throw new BackendError('ERR_BACKEND_SEALED', 'no')
  }
  await using sealed = await softwareBackend({ keys: [{ ...key, material }], onOperation: refusing })
  const bound = await sealed.bind({ kid: 'PEK', usage: 'pin-encryption', hostDecipher: true })
  for (const call of [
    () => encipherPin({ pin, pan, format: 0, key: bound }),
    () => decipherPin({ block: new Uint8Array(8), pan, format: 0, key: bound }),
  ]) {
    await failure(call, 'ERR_BACKEND_SEALED')
    expect(events.at(-1)).toMatchObject(reports('ERR_BACKEND_SEALED'))
  }
  // What is not let in has not begun.
  expect(events.filter(event => Object(event).event === 'use')).toEqual([])
  const faulty = openBackend(
    slowDriver(async () => Promise.reject(new BackendError('ERR_BACKEND_FAILED', 'x'))),
  )
  await failure(
    async () => encipherPin({ pin, pan, format: 0, key: await faulty.bind(key) }),
    'ERR_BACKEND_FAILED',
  )
  expect(events.at(-1)).toMatchObject(reports('ERR_BACKEND_FAILED'))
  const right = openBackend(slowDriver(async () => new Uint8Array(8)))
  await encipherPin({ pin, pan, format: 0, key: await right.bind(key) })
  expect(events.at(-1)).toMatchObject({ event: 'used', outcome: 'success', operation: 'encipher' })
  const wrong = openBackend(slowDriver(() => 'no bytes' as never))
  await failure(
    async () => encipherPin({ pin, pan, format: 0, key: await wrong.bind(key) }),
    'ERR_BACKEND_FAILED',
  )
  expect(events.at(-1)).toMatchObject(reports('ERR_BACKEND_FAILED'))
})

test('what a key store does to the keys of a token: an event each, whatever becomes of it', async () => {
  const fake = new FakeToken()
  await using store = await openStoreOn(fake)
  const pek = { kid: 'PEK', usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
  await store.generateKey({ ...pek, kid: 'MADE' })
  await store.importKey({ ...pek, material })
  await failure(() => store.importKey({ ...pek, material }), 'ERR_KEY_AMBIGUOUS')
  await failure(
    () =>
      store.unwrapKey({
        ...pek,
        kid: 'IN',
        wrapped: new Uint8Array(24),
        wrapping: 'rfc3394',
        under: 'KEK',
        kcv: '08D7B4',
      }),
    'ERR_KEY_NOT_FOUND',
  )
  await failure(() => store.assembleKey({ ...pek, kid: 'PARTS', parts: [], kcv: '08D7B4' }), 'ERR_ARGUMENT')
  await store.deleteKey({ kid: 'PEK' })
  const store_ = (operation: string, kid: string, more: object) => ({
    event: 'store',
    operation,
    kid,
    durationMs,
    ...more,
  })
  const usage = 'pin-encryption'
  const success = { usage, outcome: 'success' }
  expect(events.filter(event => Object(event).event === 'store')).toEqual([
    store_('generate', 'MADE', success),
    store_('import', 'PEK', success),
    store_('import', 'PEK', { usage, outcome: 'failed', code: 'ERR_KEY_AMBIGUOUS' }),
    store_('unwrap', 'IN', { usage, outcome: 'failed', code: 'ERR_KEY_NOT_FOUND' }),
    store_('assemble', 'PARTS', { usage, outcome: 'failed', code: 'ERR_ARGUMENT' }),
    store_('delete', 'PEK', { outcome: 'success' }),
  ])
  expect(JSON.stringify(events)).not.toContain(material)
})

/** A driver of one key, that answers an encipherment so. */
function slowDriver(encipher: () => Promise<Uint8Array>): BackendDriver<object> {
  return {
    name: 'driver',
    capabilities: () => ({ reencipher: 'outside' }),
    find: async () => ({
      ref: {},
      algorithm: 'tdea-2key',
      checkValue: { method: 'tdea-zeros', value: '08D7B4' },
      parity: 'odd',
    }),
    encipher,
  } as unknown as BackendDriver<object>
}

test('where nobody listens, nothing is published', async () => {
  unsubscribe(CHANNEL, take)
  await using backend = await softwareBackend({ keys: [{ ...key, material }] })
  await backend.bind({ kid: 'PEK', usage: 'pin-encryption' })
  expect(events).toEqual([])
})

test('a use, and a bind, say how many others of the same backend had begun and not ended by then', async () => {
  const { driver, waiting } = heldDriver()
  const backend = openBackend(driver)
  const other = openBackend(heldDriver().driver)
  const [bound, foreign] = await Promise.all(
    [backend, other].map(each => each.bind({ kid: 'PEK', usage: 'pin-encryption' })),
  )
  if (bound === undefined || foreign === undefined) expect.fail('no key')
  const pan = Pan.from('9999990123456789')
  const begin = (at: Key): Promise<Uint8Array> =>
    encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: at })
  const uses = [begin(bound), begin(bound), begin(bound)]
  void begin(foreign)
  await backend.bind({ kid: 'MORE', usage: 'pin-encryption' })
  const end = (): void => waiting.shift()?.(new Uint8Array(8))
  end()
  await uses[0]
  uses.push(begin(bound))
  for (let i = 0; i < 3; i++) end()
  await Promise.all(uses)
  uses.push(begin(bound))
  end()
  await Promise.all(uses)
  const queues = (event: string): readonly unknown[] =>
    events.filter(each => Object(each).event === event).map(each => Object(each).queue)
  expect(queues('used')).toEqual([0, 1, 2, 2, 0])
  expect(queues('bind')).toEqual([0, 0, 3])
})
