/** The issuer to try with: a PIN goes through Get PIN and Set PIN and comes back as the same stored block. */
import { expect, test } from 'vitest'
import { getPinResponse, openSetPinRequest } from '../../src/d1.js'
import { decipherPin, encipherPin, Pan, Pin } from '../../src/index.js'
import { createTestIssuer } from '../../src/testing.js'

test('another test issuer does not open what was sealed to this one: its P-256 key is new', async () => {
  const [one, two] = [await createTestIssuer(), await createTestIssuer()]
  const pan = Pan.from('9999990123456789')
  using pin = Pin.from('4711')
  const { storage, d1Zpk, d1PublicJwk } = one
  const block = await encipherPin({ pin, pan, format: 0, key: storage })
  const body = await getPinResponse({ block, from: storage, pan, to: d1Zpk, d1PublicJwk })
  const input = { body, pan }
  await expect(
    openSetPinRequest({ ...input, jweKeys: two.jweKey, from: two.d1Zpk, to: two.storage }),
  ).rejects.toThrow(expect.objectContaining({ code: 'ERR_JWE' }))
  const opened = await openSetPinRequest({ ...input, jweKeys: one.jweKey, from: d1Zpk, to: storage })
  expect(opened.block).toEqual(block)
  using read = await decipherPin({ block: opened.block, pan, format: 0, key: storage })
  expect(read.reveal()).toBe('4711')
  await one.backend.close()
  await two.backend.close()
})
