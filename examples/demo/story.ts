/** The issuer's side of the demo, the same on every backend: it knows kids and verbs, and no key byte. */
import { type Backend, encipherPin, type Key, Pan, Pin } from 'issuer-pin-crypto'
import { getPinResponse, openSetPinRequest } from 'issuer-pin-crypto/d1'
import { D1 } from './d1.js'
import { chapter, check, checkRefusal, masked, say, show } from './transcript.js'

/** The names of the keys, which the backend holds and D1 partly shares. */
export const KIDS = { zpk: 'ZPK-D1-2026', storage: 'PEK-STORE', jwe: 'ISSUER-JWE-2026' } as const

/** A card that nobody owns: the number fails the Luhn check. */
const CARD = { id: 'card-0001', pan: '9999990123456789' }

/** The keys of the story, bound. */
interface Keys {
  readonly zpk: Key
  readonly storage: Key
  readonly jwe: Key
}

async function bindKeys(backend: Backend): Promise<Keys> {
  const zpk = await backend.bind({ kid: KIDS.zpk, usage: 'pin-encryption', hostDecipher: true })
  const storage = await backend.bind({ kid: KIDS.storage, usage: 'pin-encryption', hostDecipher: true })
  const jwe = await backend.bind({ kid: KIDS.jwe, usage: 'jwe-key-agreement' })
  for (const key of [zpk, storage, jwe]) {
    show(key.kid, `${key.usage}, ${key.algorithm}, ${key.checkValue.method} ${key.checkValue.value}`)
  }
  return { zpk, storage, jwe }
}

/** Get PIN, Set PIN and what bad input gets, between the issuer on this backend and D1. */
export async function tellIso0Story(backend: Backend, zpkHex: string): Promise<void> {
  const { tdea, keyAgreement, reencipher } = backend.capabilities()
  chapter(`Get PIN and Set PIN (ISO0) on the ${backend.name} backend`)
  show('TDEA by', tdea)
  show('key agreement', keyAgreement)
  show('re-encipherment', reencipher)
  say('The issuer binds its keys: each has a name, one usage and a check value.')
  const keys = await bindKeys(backend)
  const { zpk, storage, jwe } = keys
  if (jwe.publicJwk === undefined) throw new Error('the JWE key shows no public half')
  const d1 = await D1.start({
    issuerPublicJwk: jwe.publicJwk,
    issuerKid: jwe.kid,
    zpk: { hex: zpkHex, kid: zpk.kid },
  })
  const pan = Pan.from(CARD.pan)

  say('A card is issued: its PIN is stored as a format 0 block under the issuer’s own key.')
  using first = Pin.from('4711')
  let stored = await encipherPin({ pin: first, pan, format: 0, key: storage })
  show('PAN', pan.masked())
  show('stored block', masked(stored))

  say('D1 asks for the PIN. The block moves to the key shared with D1, inside a JWE to D1.')
  const answer = await getPinResponse({
    block: stored,
    from: storage,
    pan,
    to: zpk,
    d1PublicJwk: d1.publicJwk,
  })
  show('type', answer.type)
  show('encryptedPinBlock', masked(answer.encryptedPinBlock))
  const displayed = await d1.readPin(answer, CARD.pan)
  check('D1 (jose + node-forge) shows the cardholder the PIN that was issued', displayed === '4711')

  say('The cardholder chooses a new PIN; D1 sends Set PIN. The issuer stores a block and sees no PIN.')
  const request = await d1.setPinRequest('905238', CARD.pan)
  show('request body', masked(request))
  const opened = await openSetPinRequest({ body: request, jweKeys: jwe, from: zpk, pan, to: storage })
  stored = opened.block
  show('stored block', `${masked(stored)} under ${opened.kid}`)

  say('D1 asks again and gets the new PIN.')
  const again = await getPinResponse({
    block: stored,
    from: storage,
    pan,
    to: zpk,
    d1PublicJwk: d1.publicJwk,
  })
  check('D1 shows the new PIN', (await d1.readPin(again, CARD.pan)) === '905238')

  say('Bad input gets a coded error, and nothing is stored.')
  const open = (body: string, card = pan) =>
    openSetPinRequest({ body, jweKeys: jwe, from: zpk, pan: card, to: storage })
  await checkRefusal('one changed character in the JWE', 'ERR_JWE', () => open(spoil(request)))
  await checkRefusal('the block of another card', 'ERR_PIN_BLOCK', () =>
    open(request, Pan.from('9999980000000012')),
  )
  await checkRefusal('a clear PIN in the JWE', 'ERR_D1_MESSAGE', async () =>
    open(await d1.seal('ISO0', { pinValue: '905238', kid: zpk.kid })),
  )
  await checkRefusal('a key used for what it is not for', 'ERR_KEY_USAGE', () =>
    encipherPin({ pin: first, pan, format: 0, key: jwe }),
  )
}

function spoil(body: string): string {
  const at = body.length - 12
  return body.slice(0, at) + (body[at] === 'A' ? 'B' : 'A') + body.slice(at + 1)
}
