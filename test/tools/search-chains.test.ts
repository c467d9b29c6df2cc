/** Messages computed side by side give what each gives alone: every algorithm and padding, lengths around the ends of blocks. */
import { expect, test } from 'vitest'
import { chooseEngine } from '../../src/backend/software/engine.js'
import { closeKey, readyKey } from '../../src/backend/software/keys.js'
import { computeMac } from '../../src/primitives/mac.js'
import { ALGORITHMS, type ProfileAlgorithm } from '../../src/seccos/profile/profile.js'
import { computeMany } from '../../src/tools/search/chains.js'
import { outputsFor } from '../../src/tools/search/outputs.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { someOf } from '../support/some-of.js'

const WAYS = (Object.keys(ALGORITHMS) as ProfileAlgorithm[])
  .filter(name => name !== 'hmac-sha256')
  .flatMap(name => ALGORITHMS[name].paddings.map(padding => [name, padding] as const))

test.each(WAYS)('%s, padding %s', async (algorithm, padding) => {
  const { cipher, port, blockBytes } = ALGORITHMS[algorithm]
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => 16 * i + 3)
  const name = cipher === 'aes' ? 'aes-128' : 'tdea-2key'
  const key = readyKey(
    { kid: 'K', usage: 'prw-generate', mode: 'G', algorithm: name, bytes },
    await chooseEngine('auto'),
  )
  const last = key.tdea ?? key.aes ?? expect.unreachable()
  const iv = Uint8Array.from({ length: blockBytes }, (_, i) => (port === 'cmac' ? 0 : 7 * i))
  for (const shared of [0, 1, blockBytes, blockBytes + 3, 123]) {
    const prefix = Uint8Array.from({ length: shared }, (_, i) => i)
    const tails = Array.from({ length: 40 }, (_, i) => [
      new Uint8Array(i % 19).fill(i),
      new Uint8Array(i % 3).fill(255),
    ])
    const heard = new Map<number, string>()
    const hear = (index: number, out: Uint8Array, at: number, length: number): void => {
      // Of a long encipherment only the last block is there.
      const from = length > 32 ? at + length - blockBytes : at
      heard.set(index, Buffer.from(out.subarray(from, at + length)).toString('hex'))
    }
    computeMany({ algorithm, padding }, key, iv, { prefix, tails }, { hear, wants: () => true })
    for (const [i, tail] of tails.entries()) {
      const message = Buffer.concat([prefix, ...tail])
      const chain = key.retailChain
      const request = { algorithm: port as 'cmac', padding, ...(port !== 'cmac' && { iv }) }
      const alone = computeMac(request, { last, ...(chain && { chain }) }, Uint8Array.from(message))
      const whole = alone.length > 32 ? alone.subarray(-blockBytes) : alone
      expect([shared, i, heard.get(i)]).toEqual([shared, i, Buffer.from(whole).toString('hex')])
    }
  }
  heardNothing(() =>
    computeMany(
      { algorithm, padding },
      {},
      iv,
      { prefix: iv, tails: [[]] },
      { hear: () => {}, wants: () => true },
    ),
  )
  closeKey(key)
})

function heardNothing(call: () => void): void {
  expect(call).toThrow(expect.objectContaining({ code: 'ERR_ARGUMENT' }))
}

test('of messages that are computed side by side nothing stays, of the first block neither', async () => {
  const bytes = Uint8Array.from({ length: 16 }, (_, i) => 16 * i + 3)
  const key = readyKey(
    { kid: 'K', usage: 'prw-generate', mode: 'G', algorithm: 'tdea-2key', bytes },
    await chooseEngine('auto'),
  )
  const block = Buffer.from('246739FFFFFFFFFF', 'hex')
  const tails = [[Uint8Array.from(block)]]
  for (const hear of [() => {}, () => expect.unreachable('a listener that fails')]) {
    const { buffers } = await buffersMadeBy(async () => {
      const messages = { prefix: new Uint8Array(0), tails }
      try {
        computeMany({ algorithm: 'iso9797-1-alg1', padding: 1 }, key, new Uint8Array(8), messages, {
          hear,
          wants: () => true,
        })
      } catch {}
    })
    expect(someOf(buffers).filter(buffer => Buffer.from(buffer).includes(block))).toEqual([])
  }
  closeKey(key)
})

test('texts in no form are refused; of CBC the last block is an output, of ECB all', async () => {
  await failure(async () => outputsFor('prwValue', ['??', '!!']), 'ERR_ENCODING', [])
  // Hex digits of one block are base64 of 24 bytes, too.
  const block = ['00112233445566778899AABBCCDDEEFF']
  expect(outputsFor('prwValue', block)('aes-cbc').map(({ whole }) => whole)).toEqual([16, undefined, 24, 24])
  expect(outputsFor('prwValue', block)('aes-ecb').map(({ whole }) => whole)).toEqual([16, 24, 24])
})
