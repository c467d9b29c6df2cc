import { describe, expect, test } from 'vitest'
import { adjustParity, parityOf, requireStrongTdea } from '../../src/primitives/tdea.js'
import { failure } from '../support/errors.js'
import { bytes, field, vectorsOf } from '../support/vectors.js'

const STRONG = '0123456789ABCDEF'
const SECOND = 'A1B2C3D4E5F60718'

describe('weak and semi-weak components', () => {
  const classes = vectorsOf('des-keys', 'des.key-class')

  test.each(classes)('$id: $outputs.classification', async vector => {
    const key = field(vector.inputs['key'])
    const refused = ['weak', 'semi-weak'].includes(field(vector.outputs?.['classification']))
    for (const material of [key + STRONG, STRONG + key, key + STRONG + key, STRONG + SECOND + key]) {
      if (refused) await failure(() => requireStrongTdea('K', bytes(material)), 'ERR_KEY_WEAK', [key])
      else if (key !== STRONG) expect(requireStrongTdea('K', bytes(material))).toBeUndefined()
    }
  })
})

describe('degenerate bundles', () => {
  test.each(vectorsOf('des-keys', 'tdea.key-class'))('$id: single DES $outputs.singleDes', async vector => {
    const material = bytes(field(vector.inputs['key']))
    if (vector.outputs?.['singleDes'] === true || vector.flags?.includes('weak-key') === true) {
      await failure(() => requireStrongTdea('K', material), 'ERR_KEY_WEAK')
    } else {
      expect(requireStrongTdea('K', material)).toBeUndefined()
    }
  })

  test('parity bits make no two keys out of one', async () => {
    const flipped = bytes(STRONG).map(byte => byte ^ 1)
    await failure(() => requireStrongTdea('K', Uint8Array.of(...bytes(STRONG), ...flipped)), 'ERR_KEY_WEAK')
  })
})

describe('parity', () => {
  test.each(vectorsOf('des-keys', 'des.check-parity'))('$id', vector => {
    expect(parityOf(bytes(field(vector.inputs['key'])))).toBe(
      vector.outputs?.['oddParity'] === true ? 'odd' : 'mixed',
    )
  })

  test('is set in the lowest bit, where it is not there already', () => {
    const material = Uint8Array.from({ length: 256 }, (_, i) => i)
    adjustParity(material)
    expect(parityOf(material)).toBe('odd')
    expect([...material].map(byte => byte >> 1)).toEqual(Array.from({ length: 256 }, (_, i) => i >> 1))
    expect([...material.subarray(0, 8)]).toEqual([1, 1, 2, 2, 4, 4, 7, 7])
  })
})
