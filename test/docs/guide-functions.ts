/** What the guides' functions do where it matters. A program and not a test file: it sees the package by its name. */
import assert from 'node:assert/strict'
import { BackendError, decipherPin, encipherPin, InputError, Pan, Pin } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { bindStorageKeys, moveBlock } from '../../examples/guides/key-ceremony/rotate.js'
import { onceMore, watchHealth } from '../../examples/guides/software-to-hsm/watch.js'

// A call is made again once where the error is retryable, and not otherwise.
const busy = new BackendError('ERR_BACKEND_BUSY', 'busy', { retryable: true })
const failing = (...errors: readonly Error[]): (() => Promise<string>) => {
  const left = [...errors]
  return async () => {
    const error = left.shift()
    if (error !== undefined) throw error
    return 'done'
  }
}
await assert.rejects(onceMore(failing(new InputError('ERR_LENGTH', 'too long'))), { code: 'ERR_LENGTH' })
await assert.rejects(onceMore(failing(new Error('foreign'))), { message: 'foreign' })
await assert.rejects(onceMore(failing(busy, busy)), { code: 'ERR_BACKEND_BUSY' })
assert.equal(await onceMore(failing(busy)), 'done')

// Health is bad after three bad answers running, and not after two.
const answers = [false, false, true, false, false, false]
let asked = 0
const sick = { health: async () => ({ ok: answers[asked++] ?? true, detail: 'the token is gone' }) }
assert.equal(await watchHealth(sick, { everyMs: 1, signal: new AbortController().signal }), 'sick')
assert.equal(asked, 6)
assert.equal(await watchHealth(sick, { everyMs: 1, signal: AbortSignal.abort() }), 'stopped')

// Another key under a recorded name stops the start.
const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
await using backend = await softwareBackend({
  keys: [
    { ...tdea, kid: 'PEK-STORE-2025', material: '0123456789ABCDEFFEDCBA9876543210' },
    { ...tdea, kid: 'PEK-STORE-2026', material: '89E88CF7931444F334BD7547FC3F380C' },
  ],
})
await assert.rejects(bindStorageKeys(backend, [{ kid: 'PEK-STORE-2026', kcv: '08D7B4' }]), {
  code: 'ERR_KEY_CHECK_VALUE',
})

// A stored block moves under the newest key, once, and keeps its PIN.
const keys = await bindStorageKeys(backend, [
  { kid: 'PEK-STORE-2026', kcv: 'D1D812' },
  { kid: 'PEK-STORE-2025', kcv: '08D7B4' },
])
const [newest, old] = keys
assert(newest !== undefined && old !== undefined)
const pan = Pan.from('9999990123456789')
const block = await encipherPin({ pin: Pin.from('4711'), pan, format: 0, key: old })
const moved = await moveBlock({ block, kid: old.kid }, keys)
assert.equal(moved.kid, 'PEK-STORE-2026')
using pin = await decipherPin({ block: moved.block, pan, format: 0, key: newest })
assert.equal(pin.reveal(), '4711')
assert.equal(await moveBlock(moved, keys), moved)
await assert.rejects(moveBlock({ block, kid: 'PEK-STORE-2019' }, keys), /retired/)

console.log('as the guides say')
