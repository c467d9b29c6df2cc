/** D1's Set PIN messages, as text, as bytes and as objects; and what is inside them, sealed as D1 would seal it. */
import fc from 'fast-check'
import { compactDecrypt, importJWK } from 'jose'
import { openSetPinRequest, openSetPinRequestToClearPin } from '../../../src/d1/messages/set-pin.js'
import { openSeccosSetPinRequest } from '../../../src/d1/messages/set-pin-seccos.js'
import { Pan } from '../../../src/index.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/tools.js'
import { RECIPIENT_PRIVATE } from '../../jwe/support.js'
import { Input, textInput } from '../support/input.js'
import {
  iso0Body,
  iso0Content,
  issuer,
  PAN_DIGITS,
  refuseSecrets,
  SECCOS_CARD,
  sealed,
  seccosContent,
} from '../support/issuer.js'
import { attemptAsync } from '../support/oracle.js'
import { check, type FuzzTarget } from '../target.js'

const pan = Pan.from(PAN_DIGITS)

/** Contents with one or two members replaced or taken away. */
function almostContent(content: Readonly<Record<string, string>>): fc.Arbitrary<Record<string, unknown>> {
  const names = [...Object.keys(content), 'further', '__proto__']
  const hex = fc.string({ unit: fc.constantFrom(...'0123456789ABCDEFabcdef'), maxLength: 20 })
  const value = fc.oneof(
    hex,
    fc.string(),
    fc.constantFrom<unknown>(
      undefined,
      null,
      7,
      [],
      {},
      'ZPK-D1',
      'PRW-1',
      'MAC-1',
      '0'.repeat(246),
      '\ud800',
    ),
    fc.nat().map(at => Object.values(content).map(text => flip(text, at))[at % Object.keys(content).length]),
  )
  return fc
    .array(fc.tuple(fc.constantFrom(...names), value), { maxLength: 2 })
    .map(changes => Object.assign(Object.create(null), content, Object.fromEntries(changes)))
}

function flip(text: string, at: number): string {
  const i = at % text.length
  return text.slice(0, i) + (text.charAt(i) === '0' ? '1' : '0') + text.slice(i + 1)
}

const types = fc.constantFrom('ISO0', '3DES_SECCOS', 'ISO0', '3DES_SECCOS', 'ISO1', '')
const almost = fc
  .tuple(fc.nat(2), types, fc.oneof(almostContent(iso0Content), almostContent(seccosContent)))
  .map(([form, type, content]) => textInput(sealed(type, content), form))

const CODES = [
  'ERR_D1_MESSAGE',
  'ERR_JWE',
  'ERR_PIN_BLOCK',
  'ERR_DATA_SET',
  'ERR_ENCODING',
  'ERR_CHANGE_COUNTER',
  'ERR_PRW_MAC',
] as const

export const d1Messages: FuzzTarget = {
  name: 'd1-set-pin',
  share: 20,
  seeds: [
    textInput(iso0Body, 0),
    textInput(iso0Body, 1),
    textInput(iso0Body, 2),
    textInput(sealed('3DES_SECCOS', seccosContent), 0),
    textInput(sealed('ISO0', `{"pinValue":"${iso0Content.pinValue}","kid":"ZPK-D1","kid":"X"}`), 0),
  ],
  structured: almost,
  async run(bytes) {
    const { keys, counter } = await issuer()
    const input = new Input(bytes)
    const form = input.byte() % 3
    const text = input.text()
    const object = form === 2 ? objectOf(text) : undefined
    const body = object ?? (form === 1 ? Uint8Array.from(Buffer.from(text)) : text)
    const { jwe: jweKeys, zpk: d1Zpk, storage } = keys
    const inner = await contentOf(text)
    const rule = {
      codes: CODES,
      hidden: [text, inner, iso0Content.pinValue, ...Object.values(seccosContent)],
    }
    const iso0 = await attemptAsync(
      () => openSetPinRequest({ body, jweKeys, from: d1Zpk, pan, to: storage }),
      rule,
    )
    const pin = await attemptAsync(
      () => openSetPinRequestToClearPin({ body, jweKeys, from: d1Zpk, pan }),
      rule,
    )
    const seccos = await attemptAsync(
      () =>
        openSeccosSetPinRequest({
          body,
          jweKeys,
          cardId: SECCOS_CARD,
          profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA,
          macKeys: keys.mac,
          prwKids: ['PRW-1'],
          counter,
        }),
      rule,
    )
    check(iso0 === undefined || seccos === undefined, 'a message is of one type')
    if (pin !== undefined) check(iso0 !== undefined, 'what gives a PIN can be stored')
    pin?.dispose()
    if (iso0 !== undefined) {
      check(
        iso0.block.length === 8 && iso0.kid === 'PEK-STORE' && iso0.zpkKid === 'ZPK-D1',
        'a block to store',
      )
      refuseSecrets(JSON.stringify(iso0))
    }
    // The MAC covers the data set and the PRW: whoever has no MAC key gets nothing else accepted.
    if (seccos === undefined) return
    const members: Readonly<Record<string, unknown>> = JSON.parse(inner)
    for (const [name, value] of Object.entries(seccosContent)) {
      check(members[name] === value, `only what D1 has MACed, to the last character of ${name}`)
    }
  },
}

/** What is inside a message, by jose; empty where it does not open. */
async function contentOf(text: string): Promise<string> {
  const { encryptedPinBlock } = (objectOf(text) ?? {}) as { encryptedPinBlock?: unknown }
  const key = await importJWK({ ...RECIPIENT_PRIVATE }, 'ECDH-ES')
  return compactDecrypt(String(encryptedPinBlock), key).then(
    ({ plaintext }) => Buffer.from(plaintext).toString('utf8'),
    () => '',
  )
}

function objectOf(text: string): object | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}
