/**
 * The contract on a second token with other abilities: NSS softokn has no TDEA CMAC (composed here), keeps no
 * CKA_CHECK_VALUE, and can re-encipher PIN blocks inside.
 *
 * It has one token per process, so what SoftHSM does with two tokens is done here with two sets of labels.
 */

import { afterAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Backend, OpenerOptions } from '../src/index.js'
import { openKeyStore, pkcs11Backend } from '../src/pkcs11.js'
import { backendContract, CONTRACT_KEYS, type ContractKey } from '../src/testing.js'
import { describeNss, makeDatabase } from './nss.js'
import { PATIENT } from './provision.js'
import { onToken, strayKey } from './raw.js'

describeNss('backend contract: NSS softokn', () => {
  const options = makeDatabase()

  /** Labels begin with a prefix of the set; a kid that is not in the set is found under none. */
  async function openSet(
    prefix: string,
    keys: readonly ContractKey[],
    opener: OpenerOptions = {},
  ): Promise<Backend> {
    await using store = await openKeyStore({ ...options, importClearKeys: true })
    for (const { kid, id } of await store.listKeys()) {
      if (kid.startsWith(prefix)) await store.deleteKey({ kid, id })
    }
    const kids = new Set<string>()
    for (const key of keys) {
      const label = `${prefix}${key.kid}`
      const translation = key.usage === 'pin-encryption' && !key.algorithm.startsWith('aes')
      if (!kids.has(key.kid)) {
        await store.importKey({ ...key, kid: label, ...(translation && { translation }) })
      } else {
        await onToken(options, ({ binding, session }) => binding.C_CreateObject(session, strayKey(label, [])))
      }
      kids.add(key.kid)
    }
    const all = [...CONTRACT_KEYS.map(({ kid }) => kid), ...kids]
    return pkcs11Backend({
      ...PATIENT,
      ...options,
      ...opener,
      keys: Object.fromEntries(all.map(kid => [kid, { label: prefix + kid }])),
    })
  }

  const contract = backendContract({
    open: (keys, opener) => openSet(keys === CONTRACT_KEYS ? 'shared ' : 'scratch ', keys, opener),
  })
  test.each(contract.cases.map(({ name, run }) => [name, run] as const))('%s', (_name, run) => run())

  test('its abilities are those this file says', async () => {
    await using backend = await pkcs11Backend(options)
    expect(backend.capabilities()).toMatchObject({
      macs: { 'iso9797-1-alg1': 'native', 'iso9797-1-alg3': 'composed', cmac: 'composed' },
      keyAgreement: 'token-digest-key',
      signing: 'native',
      reencipher: 'inside',
    })
  })

  test('a PIN block is re-enciphered inside under keys that the host may not decipher with', async () => {
    const closed: readonly ContractKey[] = CONTRACT_KEYS.filter(({ kid }) => kid.startsWith('PEK')).map(
      ({ hostDecipher: _hostDecipher, derives: _derives, ...key }) => key,
    )
    await using backend = await openSet('scratch ', closed)
    const from = await backend.bind({ kid: 'PEK-3', usage: 'pin-encryption' })
    const to = await backend.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const clear = Uint8Array.from(Buffer.from('13BAD542F3652D67'.repeat(2), 'hex'))
    const moved = await operationsOf(from).reencipher(to, await operationsOf(from).encipher(clear))
    expect(Buffer.from(moved).toString('hex').toUpperCase()).toBe('908E543CF2CB254F'.repeat(2))
  })

  afterAll(() => contract.close())
})
