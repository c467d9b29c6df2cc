import { ChangeCounter, memoryStore, Pan, Pin, verifyPrw } from 'issuer-pin-crypto'
import { changeCounterResponse, openSeccosSetPinRequest } from 'issuer-pin-crypto/d1'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { makeSeccosSetPinRequest } from 'issuer-pin-crypto/testing'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from 'issuer-pin-crypto/tools'

const prw = { algorithm: 'tdea-2key', material: '0123456789ABCDEFFEDCBA9876543210' } as const
await using backend = await softwareBackend({
  keys: [
    { kid: 'PRW-1', usage: 'prw-generate', ...prw }, // D1's; here only to play its part
    { kid: 'PRW-1-VERIFY', usage: 'prw-verify', ...prw },
    {
      kid: 'MAC-1',
      usage: 'retail-mac',
      algorithm: 'tdea-2key',
      material: '89E88CF7931444F334BD7547FC3F380C',
    },
    { kid: 'JWE-1', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '11'.repeat(32) },
  ],
})
const jweKeys = await backend.bind({ kid: 'JWE-1', usage: 'jwe-key-agreement' })
const macKeys = await backend.bind({ kid: 'MAC-1', usage: 'retail-mac' })
const counter = new ChangeCounter({
  store: memoryStore(), // store.counters(issuerId) of an issuer's store where it must last
  backend,
  firstPcc: '0001',
  rule: 'increment-on-accept',
  wrap: 'refuse',
  ttlSeconds: 300,
})

// Get PIN Change Counter.
const cardId = 'card-0001'
const { pcc, intdatag } = await changeCounterResponse({ counter, cardId })

// D1 computes and sends Set PIN.
const pan = Pan.from('9999990123456789')
const body = await makeSeccosSetPinRequest({
  pin: Pin.from('4711'),
  pan,
  pcc,
  intdatag,
  profile,
  fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
  prwKey: await backend.bind({ kid: 'PRW-1', usage: 'prw-generate' }),
  macKey: macKeys,
  issuerPublicJwk: { ...jweKeys.publicJwk, kid: jweKeys.kid },
})

// Set PIN: fields, data set, counter and MAC are checked before anything is stored.
const opened = await openSeccosSetPinRequest({
  body,
  cardId,
  jweKeys,
  profile,
  macKeys,
  prwKids: ['PRW-1'],
  counter,
})
await counter.accept({
  request: opened.acceptance,
  store: async ({ sequence }) => {
    console.log('store', opened.prwKid, opened.pcc, opened.provenance, sequence)
  },
})

// Later, at a terminal.
using candidate = Pin.from('4711')
const key = await backend.bind({ kid: 'PRW-1-VERIFY', usage: 'prw-verify' })
const { dataSet, prwValue } = opened
const { verified } = await verifyPrw({ key, profile, pin: candidate, pan, dataSet, prwValue })
console.log('verified', verified) // verified true
