/** The 3DES_SECCOS part of the demo: change counter, Set PIN, and a terminal that verifies PINs. On any backend. */
import { type Backend, ChangeCounter, memoryStore, Pan, Pin, verifyPrw } from 'issuer-pin-crypto'
import { changeCounterResponse, openSeccosSetPinRequest } from 'issuer-pin-crypto/d1'
import { inspectDataSet, ILLUSTRATIVE_NOT_GIROCARD_TDEA as profile } from 'issuer-pin-crypto/tools'
import { D1 } from './d1.js'
import { type SeccosKeys, seccosContent } from './d1-seccos.js'
import { chapter, check, checkRefusal, masked, say, show } from './transcript.js'

/** The names of the keys of this part. */
export const SECCOS_KIDS = { prw: 'PRW-2026', mac: 'PRW-MAC-2026', jwe: 'ISSUER-JWE-2026' } as const

const CARD = { id: 'card-0002', pan: '9999990123456789', psn: '01', expiry: '2912', issuer: 'is_tbank01' }

export async function tellSeccosStory(backend: Backend, keys: SeccosKeys): Promise<void> {
  chapter(`Set PIN (3DES_SECCOS) on the ${backend.name} backend`)
  show('profile', `${profile.name} ${profile.version}`)
  show('provenance', `${profile.provenance}: invented for this library, NOT the girocard algorithm`)
  show('retail MAC', backend.capabilities().macs['iso9797-1-alg3'])
  const jwe = await backend.bind({ kid: SECCOS_KIDS.jwe, usage: 'jwe-key-agreement' })
  const mac = await backend.bind({ kid: SECCOS_KIDS.mac, usage: 'retail-mac' })
  const prw = await backend.bind({ kid: SECCOS_KIDS.prw, usage: 'prw-verify' })
  if (jwe.publicJwk === undefined) throw new Error('the JWE key shows no public half')
  const d1 = await D1.start({ issuerPublicJwk: jwe.publicJwk, issuerKid: jwe.kid, zpk: { hex: '', kid: '' } })
  const store = memoryStore()
  const rules = { firstPcc: '0001', rule: 'increment-on-accept', wrap: 'refuse', ttlSeconds: 300 } as const
  const counter = new ChangeCounter({ store, backend, ...rules })

  say('D1 asks for the PIN change counter: four digits, and an intdatag nobody can guess.')
  const issued = await changeCounterResponse({ counter, cardId: CARD.id })
  show('pcc', issued.pcc)
  show('intdatag', masked(issued.intdatag))

  say('D1 computes PRW and MAC from PIN, PAN and counter (node-forge, by hand) and sends Set PIN.')
  const content = seccosContent('4711', CARD, issued, keys)
  const body = await d1.seal('3DES_SECCOS', content)
  show('request body', masked(body))

  say('The issuer opens it: fields, data set, counter and MAC are checked before anything is stored.')
  const input = { cardId: CARD.id, jweKeys: jwe, profile, macKeys: mac, prwKids: [SECCOS_KIDS.prw], counter }
  const opened = await openSeccosSetPinRequest({ ...input, body })
  const cards = new Map<string, { prwValue: string; dataSet: Uint8Array; sequence: number }>()
  await counter.accept({
    request: opened.acceptance,
    store: async ({ sequence }) => {
      cards.set(CARD.id, { prwValue: opened.prwValue, dataSet: opened.dataSet, sequence })
    },
  })
  show('stored PRW', `${masked(opened.prwValue)}, key ${opened.prwKid}, PCC ${opened.pcc}`)
  for (const line of inspectDataSet({ profile, prwDataSet: opened.prwDataSet }).split('\n'))
    console.log(`      ${line}`)

  say('A terminal verifies PINs against what is stored; the issuer never saw the PIN.')
  const stored = cards.get(CARD.id)
  if (stored === undefined) throw new Error('nothing was stored')
  const verifies = async (digits: string): Promise<boolean> => {
    using pin = Pin.from(digits)
    const { prwValue, dataSet } = stored
    return (await verifyPrw({ key: prw, profile, pin, pan: Pan.from(CARD.pan), dataSet, prwValue })).verified
  }
  check('the PIN the cardholder chose is right', await verifies('4711'))
  check('another PIN is wrong', !(await verifies('4712')))

  say('D1 repeats the request, because the answer was lost; then somebody tries what must not work.')
  const again = await openSeccosSetPinRequest({ ...input, body: await d1.seal('3DES_SECCOS', content) })
  check('the very same request is known, and nothing is stored twice', again.replayed)
  const next = await counter.issue({ cardId: CARD.id })
  check('the counter has moved by one', next.pcc === '0002')
  await checkRefusal('another PIN with the spent intdatag', 'ERR_CHANGE_COUNTER', async () =>
    openSeccosSetPinRequest({
      ...input,
      body: await d1.seal('3DES_SECCOS', seccosContent('9999', CARD, issued, keys)),
    }),
  )
  await checkRefusal('a PRW that was changed on the way', 'ERR_PRW_MAC', async () => {
    const fresh = seccosContent('9999', CARD, next, keys)
    const changed = { ...fresh, prwValue: content['prwValue'] ?? '' }
    return openSeccosSetPinRequest({ ...input, body: await d1.seal('3DES_SECCOS', changed) })
  })
}
