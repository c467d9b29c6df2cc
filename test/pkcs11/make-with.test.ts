/** Which attributes a template is tried with, when a token or the link to it does not take all of them. */
import { describe, expect, test } from 'vitest'
import { CKA, CKR } from '../../src/backend/pkcs11/binding/constants.js'
import { Pkcs11Error } from '../../src/backend/pkcs11/binding/errors.js'
import { makeWith, secretKey } from '../../src/backend/pkcs11/mechanisms/templates.js'

const KEK = secretKey({
  keyType: 0x1f,
  can: ['UNWRAP'],
  name: { label: 'KEK', id: Buffer.from('KEK') },
  unwraps: 'keys',
})

describe('templates within templates', () => {
  test('are stated where nothing is known against them', () => {
    const [tried] = makeWith([KEK], template => [template])
    expect(tried?.some(([type]) => type === CKA.UNWRAP_TEMPLATE)).toBe(true)
  })

  test('are in no try where the link breaks over them, and what was left out is noted', () => {
    const leftOut = new Set<number>()
    const tries: number[][] = []
    expect(() =>
      makeWith(
        [KEK],
        template => {
          tries.push(template.map(([type]) => type))
          throw new Pkcs11Error('C_CreateObject', CKR.ATTRIBUTE_VALUE_INVALID)
        },
        { known: [CKA.UNWRAP_TEMPLATE], leftOut },
      ),
    ).toThrow('C_CreateObject')
    expect(tries.length).toBeGreaterThan(3)
    expect(tries.flat()).not.toContain(CKA.UNWRAP_TEMPLATE)
    makeWith([KEK], () => undefined, { known: [CKA.UNWRAP_TEMPLATE], leftOut })
    expect([...leftOut]).toEqual([CKA.UNWRAP_TEMPLATE])
  })
})
