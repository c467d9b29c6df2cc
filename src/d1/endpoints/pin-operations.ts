/** Get PIN and Get PIN Change Counter. */
import { changeCounterResponse, getPinResponse } from '../messages/get-pin.js'
import type { Answer } from './answer.js'
import { auditKey } from './audit.js'
import { findCard, type PinCall } from './call.js'
import { COUNTER_FAULTS, GET_PIN_FAULTS, judged, Refusal, supplied } from './refusal.js'

/** getPIN: the stored block, under the key shared with D1, in a JWE to D1. */
export async function getPin(call: PinCall): Promise<Answer> {
  const { issuer, card: ref, options, facts } = call
  const { pan } = await findCard(call)
  const { iso0, pins } = issuer
  if (iso0 === undefined) throw new Refusal('pin-not-available')
  const stored = await supplied('store-failed', () => pins.readBlock(ref, options))
  if (stored === undefined) throw new Refusal('pin-not-available')
  const under = iso0.storage.find(key => key.kid === stored.kid)
  if (under === undefined) throw new Refusal('storage-key-unknown')
  const { d1Zpk, recipient, recipientKid, translation } = iso0
  const input = { block: stored.block, under, pan, d1Zpk: d1Zpk[0], d1PublicJwk: recipient, translation }
  const body = await judged(GET_PIN_FAULTS, () => getPinResponse(input, options))
  facts.keys.push(auditKey('storage', under), auditKey('d1-zpk', d1Zpk[0]), {
    role: 'd1-public',
    kid: recipientKid,
  })
  return { status: 200, body }
}

/** getPINChangeCounter: the card's PCC and a fresh intdatag. */
export async function getPinChangeCounter(call: PinCall): Promise<Answer> {
  const { issuer, card: ref, options } = call
  const { setPinTypes } = await findCard(call)
  const { seccos } = issuer
  if (seccos === undefined || !setPinTypes.includes('3DES_SECCOS')) throw new Refusal('pin-type')
  const { cardId } = ref
  const body = await judged(COUNTER_FAULTS, () =>
    changeCounterResponse({ counter: seccos.counter, cardId }, options),
  )
  return { status: 200, body }
}
