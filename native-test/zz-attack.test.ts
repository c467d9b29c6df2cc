import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Station, Template } from '../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKM, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { readAttribute } from '../src/backend/pkcs11/mechanisms/objects.js'
import { openKeyStore, pkcs11Backend } from '../src/pkcs11.js'
import { describeNss, makeDatabase } from './nss.js'
import { onToken, strayKey, TEST_KEY } from './raw.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const OTHER = Uint8Array.from(Buffer.from('FEDCBA98765432100123456789ABCDEF', 'hex'))
const out = (...a: unknown[]) => console.log(...a)
const tryIt = async (name: string, f: () => unknown) => {
  try {
    const r = await f()
    out('   ', name, '->', typeof r === 'object' ? JSON.stringify(r) : String(r))
    return r
  } catch (e) {
    out('   ', name, '!!', (e as any).code ?? '', (e as Error).message.slice(0, 200))
    return undefined
  }
}
function attacks(which: string, options: any) {
  test(`${which}: forged check value`, async () => {
    out('==', which, 'forged')
    const made = await tryIt('create with forged CKA_CHECK_VALUE', () =>
      onToken(options, ({ binding, session }: Station) => {
        const o = binding.C_CreateObject(session, strayKey('FORGED', [[CKA.ID, Buffer.from('forged')], [CKA.ENCRYPT, false], [CKA.SIGN, true], [CKA.CHECK_VALUE, Buffer.from('08D7B4', 'hex')]], OTHER))
        const v = readAttribute(binding, session, o, CKA.CHECK_VALUE)
        return v && Buffer.from(v).toString('hex')
      }),
    )
    await tryIt('set forged', () => onToken(options, ({ binding, session }: Station) => {
        const o = binding.C_CreateObject(session, strayKey('FORGED2', [[CKA.ID, Buffer.from('forged2')], [CKA.MODIFIABLE, true], [CKA.ENCRYPT, false], [CKA.SIGN, true]], OTHER))
        const before = readAttribute(binding, session, o, CKA.CHECK_VALUE)
        binding.C_SetAttributeValue(session, o, [[CKA.CHECK_VALUE, Buffer.from('08D7B4', 'hex')]])
        const v = readAttribute(binding, session, o, CKA.CHECK_VALUE)
        return [before && Buffer.from(before).toString('hex'), v && Buffer.from(v).toString('hex')]
    }))
    await tryIt('copy forged', () => onToken(options, ({ binding, session }: Station) => {
        const o = binding.C_CreateObject(session, strayKey('FORGED3', [[CKA.ID, Buffer.from('forged3')], [CKA.MODIFIABLE, true], [CKA.ENCRYPT, false], [CKA.SIGN, true]], OTHER))
        const c = binding.C_CopyObject(session, o, [[CKA.CHECK_VALUE, Buffer.from('08D7B4', 'hex')]])
        const v = readAttribute(binding, session, c, CKA.CHECK_VALUE)
        return v && Buffer.from(v).toString('hex')
    }))
    await tryIt('bind forged', async () => {
      await using b = await pkcs11Backend(options)
      const k = await b.bind({ kid: 'FORGED', usage: 'cmac', kcv: '08D7B4' })
      return k.checkValue
    })
    void made
  })
  test(`${which}: wrap non-extractable`, async () => {
    out('==', which, 'wrap')
    await onToken(options, ({ binding, session }: Station) => {
      const victim = binding.C_CreateObject(session, strayKey('VICTIM', [[CKA.ID, Buffer.from('victim')]]))
      const kek = binding.C_CreateObject(session, [
        [CKA.CLASS, CKO.SECRET_KEY], [CKA.KEY_TYPE, CKK.AES], [CKA.TOKEN, false], [CKA.WRAP, true], [CKA.ENCRYPT, true], [CKA.DECRYPT, true], [CKA.SENSITIVE, false], [CKA.VALUE, Buffer.alloc(16, 7)],
      ])
      for (const [n, m] of [['AES_KEY_WRAP', { mechanism: CKM.AES_KEY_WRAP }], ['AES_ECB', { mechanism: CKM.AES_ECB }], ['AES_CBC', { mechanism: CKM.AES_CBC, parameter: new Uint8Array(16) }], ['AES_CBC_PAD', { mechanism: 0x1085, parameter: new Uint8Array(16) }]] as const) {
        try {
          const w = binding.C_WrapKey(session, m as any, kek, victim, 64)
          out('    wrapped by', n, Buffer.from(w).toString('hex'))
        } catch (e) { out('    wrap', n, '!!', (e as Error).message) }
      }
      const made = binding.C_GenerateKey(session, { mechanism: CKM.DES2_KEY_GEN }, strayKey('GENV', [[CKA.ID, Buffer.from('genv')], [CKA.VALUE, undefined], [CKA.WRAP_WITH_TRUSTED, undefined]]))
      try { const w = binding.C_WrapKey(session, { mechanism: CKM.AES_KEY_WRAP }, kek, made, 64); out('    generated wrapped', w.length) } catch (e) { out('    wrap generated !!', (e as Error).message) }
    })
  })
  test(`${which}: accept each alone`, async () => {
    out('==', which, 'accept')
    const kinds: Record<string, Template> = {
      good: [], PUBLIC: [[CKA.PRIVATE, false]], MODIF: [[CKA.MODIFIABLE, true]], EXTR: [[CKA.EXTRACTABLE, true]], CLEAR: [[CKA.SENSITIVE, false]], COPYABLE: [[CKA.COPYABLE, true]], DERIVE: [[CKA.DERIVE, true]], DEC: [[CKA.DECRYPT, true]], UNW: [[CKA.UNWRAP, true]], WRAP: [[CKA.WRAP, true]],
    }
    await onToken(options, ({ binding, session }: Station) => {
      for (const [n, t] of Object.entries(kinds)) {
        try { binding.C_CreateObject(session, strayKey('A-' + n, [[CKA.ID, Buffer.from('id' + n)], ...t], randomBytes(16))) } catch (e) { out('    create', n, (e as Error).message) }
      }
    })
    for (const accept of [[], ['public'], ['modifiable'], ['copyable'], ['hidden-roles']]) {
      await using b = await pkcs11Backend({ ...options, accept })
      const row: string[] = []
      for (const n of Object.keys(kinds)) row.push(`${n}:${await b.bind({ kid: 'A-' + n, usage: 'pin-encryption' }).then(() => 'OK', e => e.code.replace('ERR_', ''))}`)
      out('    accept', JSON.stringify(accept), row.join(' '))
    }
    await tryIt('unknown accept', () => pkcs11Backend({ ...options, accept: ['wrappable'] }))
    await tryIt('proto accept', () => pkcs11Backend({ ...options, accept: ['__proto__'] }))
    await tryIt('list', async () => { await using s = await openKeyStore(options); return (await s.listKeys()).map(k => [k.kid, k.origin, k.problem?.slice(0, 60)].join('|')) })
  })
  test(`${which}: K1 object and two kids`, async () => {
    out('==', which, 'k1')
    await using s = await openKeyStore({ ...options, composedMac: true, importClearKeys: true })
    await tryIt('import', () => s.importKey({ kid: 'RM', usage: 'retail-mac', algorithm: 'tdea-2key', material: Buffer.from('1122334455667788A1B2C3D4E5F60718', 'hex') }))
    await using b = await pkcs11Backend({ ...options, composedMac: true, keys: { BYLABEL: { label: 'RM/K1' } } })
    for (const kid of ['RM/K1', 'BYLABEL']) for (const usage of ['pin-encryption', 'cbc-mac', 'cmac', 'prw-verify'] as const)
      await tryIt(`bind ${kid} ${usage}`, async () => (await b.bind({ kid, usage, ...(usage === 'pin-encryption' && { mode: 'E' as const }) })).toString())
    await tryIt('bind RM', async () => (await b.bind({ kid: 'RM', usage: 'retail-mac' })).toString())
  })
  test(`${which}: kcv`, async () => {
    out('==', which, 'kcv')
    await using s = await openKeyStore({ ...options, importClearKeys: true })
    await s.importKey({ kid: 'KC-P', usage: 'pin-encryption', algorithm: 'tdea-2key', material: TEST_KEY })
    await s.importKey({ kid: 'KC-A', usage: 'pin-encryption', algorithm: 'aes-128', material: Buffer.from('2B7E151628AED2A6ABF7158809CF4F3C', 'hex') })
    await tryIt('cmac key', () => s.importKey({ kid: 'KC-C', usage: 'cmac', algorithm: 'aes-128', material: Buffer.from('2B7E151628AED2A6ABF7158809CF4F3D', 'hex') }))
    await tryIt('cmac tdea key', () => s.importKey({ kid: 'KC-T', usage: 'cmac', algorithm: 'tdea-2key', material: Buffer.from('1122334455667788A1B2C3D4E5F60719', 'hex') }))
    await using b = await pkcs11Backend(options)
    const k = await b.bind({ kid: 'KC-P', usage: 'pin-encryption' })
    const e0 = Buffer.from(await operationsOf(k).encipher(new Uint8Array(8))).toString('hex').toUpperCase()
    const a = await b.bind({ kid: 'KC-A', usage: 'pin-encryption' })
    const a0 = Buffer.from(await operationsOf(a).encipher(new Uint8Array(16))).toString('hex').toUpperCase()
    out('   ', e0, a0, a.checkValue)
    const bad: string[] = []
    for (let n = 2; n <= 17; n++) {
      const cases: any[] = [['KC-P', 'encrypt-zero', e0], ['KC-A', 'encrypt-zero', a0]]
      for (const [kid, method, whole] of cases) {
        const v = whole.slice(0, 2 * n).padEnd(2 * n, '0')
        const r = await b.bind({ kid, usage: 'pin-encryption', kcv: { method, value: v } }).then(x => 'OK' + x.checkValue.value.length, e => e.code)
        const w = v.slice(0, -1) + (v.endsWith('0') ? '1' : '0')
        const r2 = await b.bind({ kid, usage: 'pin-encryption', kcv: { method, value: w } }).then(() => 'OK', e => e.code)
        bad.push(`${kid}/${n}:${r}/${r2}`)
      }
    }
    out('   ', bad.join(' '))
    for (const [kid, usage, kcv] of [['KC-C', 'cmac', { method: 'encrypt-zero', value: '000000' }], ['KC-T', 'cmac', '000000'], ['KC-T', 'cmac', { method: 'cmac', value: '000000' }], ['KC-C', 'cmac', '00000000'], ['KC-P', 'pin-encryption', { method: 'cmac', value: '0000000000000000' }], ['KC-P', 'pin-encryption', { method: 'hmac', value: '0000000000000000' }], ['KC-A', 'pin-encryption', '0000000000000000']] as const)
      await tryIt(`${kid} ${JSON.stringify(kcv)}`, () => b.bind({ kid, usage, kcv } as any))
  })
  test(`${which}: attributes change after bind`, async () => {
    out('==', which, 'change')
    await onToken(options, ({ binding, session }: Station) => {
      binding.C_CreateObject(session, strayKey('CH', [[CKA.ID, Buffer.from('change')], [CKA.MODIFIABLE, true]], randomBytes(16)))
    })
    await using b = await pkcs11Backend({ ...options, accept: ['modifiable', 'copyable'] })
    const key = await b.bind({ kid: 'CH', usage: 'pin-encryption' })
    await tryIt('widen', () => onToken(options, ({ binding, session }: Station) => {
      binding.C_FindObjectsInit(session, [[CKA.LABEL, 'CH']])
      const [o] = binding.C_FindObjects(session, 1)
      binding.C_FindObjectsFinal(session)
      binding.C_SetAttributeValue(session, o as any, [[CKA.SIGN, true], [CKA.EXTRACTABLE, false]])
      return 'widened'
    }))
    await tryIt('encipher after', async () => (await operationsOf(key).encipher(new Uint8Array(8))).length)
    await tryIt('health', async () => b.health())
    await tryIt('bind again', async () => (await b.bind({ kid: 'CH', usage: 'pin-encryption' })).toString())
  })
}
describeSoftHsm('attack softhsm', () => attacks('softhsm', { ...makeToken('attack'), executor: 'inline' }))
describeNss('attack nss', () => attacks('nss', { ...makeDatabase(), executor: 'inline' }))
