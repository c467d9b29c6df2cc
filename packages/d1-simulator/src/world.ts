/** What the cases work with: the issuer's addresses, D1's token, test cards and the PINs they have by now. */
import { randomInt } from 'node:crypto'
import { tdea } from './ciphers.js'
import type { CardConfig, ConfiguredState, PinType } from './config.js'
import { requireStatus, textOf } from './contract.js'
import { openAnswer, seal } from './jwe.js'
import { clearBlock, haveOneBlock, pinOf } from './pin-block.js'
import { Mismatch, NotRun } from './problems.js'
import { type SeccosContent, type SeccosKeys, seccosContent, type Twist } from './seccos.js'
import type { Setup } from './setup.js'
import type { Ask, Reply, Wire } from './wire.js'

/** A card that the issuer has. */
export interface Card extends CardConfig {
  readonly pan: string
}

export interface Counter {
  readonly pcc: string
  readonly intdatag: string
}

/** A token is used for this part of the life it states. */
const TOKEN_LIFE = 0.8
const JSON_TYPE = { 'content-type': 'application/json' } as const

export class World {
  readonly setup: Setup
  readonly wire: Wire
  #token: { readonly value: string; readonly until: number } | undefined
  /** By cardId: the PIN before anything was changed; undefined where Get PIN did not show it. */
  readonly #first = new Map<string, string | undefined>()
  readonly #pins = new Set<string>()

  constructor(setup: Setup, wire: Wire) {
    this.setup = setup
    this.wire = wire
  }

  pinUrl(cardId: string, issuerId: string = this.setup.issuerId): string {
    return `${this.setup.url}/cms/api/v1/issuers/${issuerId}/cards/${cardId}/pin`
  }

  counterUrl(cardId: string): string {
    return `${this.pinUrl(cardId)}/changeCounter`
  }

  /** The cards of a state, and of a type by which their PIN can be set; {@link NotRun} where there are fewer. */
  cards(count: number, state: ConfiguredState, type?: PinType): Card[] {
    const found = this.#allOf(state, type)
    if (found.length >= count) return found.slice(0, count)
    const what = type === undefined ? state : `${state} ${type}`
    throw new NotRun(count === 1 ? `there is no ${what} card` : `there are not ${count} ${what} cards`)
  }

  #allOf(state: ConfiguredState, type?: PinType): Card[] {
    return this.setup.cards.filter(
      (card): card is Card =>
        card.state === state &&
        card.pan !== undefined &&
        (type === undefined || !!card.setPinTypes?.includes(type)),
    )
  }

  /** Two active cards of one PAN, or of two that are one in a PIN block: a card and its successor, say. */
  twins(): readonly [Card, Card] {
    const found = this.#allOf('active', 'ISO0')
    for (const card of found) {
      const twin = found.find(other => other !== card && haveOneBlock(other.pan, card.pan))
      if (twin !== undefined) return [card, twin]
    }
    throw new NotRun('there are not two active ISO0 cards of one PAN')
  }

  /** The first of {@link cards}. */
  card(state: ConfiguredState, type?: PinType): Card {
    return this.cards(1, state, type)[0] as Card
  }

  /** An active card that allows one type and not the other. */
  cardOnlyFor(type: PinType): Card {
    const card = this.setup.cards.find(
      (candidate): candidate is Card =>
        candidate.state === 'active' && candidate.setPinTypes?.join() === type,
    )
    if (card === undefined) throw new NotRun(`there is no active card for ${type} alone`)
    return card
  }

  /** An active card that allows both types. */
  cardForBoth(): Card {
    const card = this.setup.cards.find(
      (candidate): candidate is Card =>
        candidate.state === 'active' &&
        candidate.setPinTypes !== undefined &&
        candidate.setPinTypes.length > 1,
    )
    if (card === undefined) throw new NotRun('there is no active card for both types')
    return card
  }

  /** A cardId that the issuer does not know. */
  absent(): string {
    const card = this.setup.cards.find(({ state }) => state === 'absent')
    if (card === undefined) throw new NotRun('there is no absent card')
    return card.cardId
  }

  /** How D1 authorises itself; nothing where the client certificate does. */
  async authorization(): Promise<Readonly<Record<string, string>>> {
    if (this.setup.tokenUrl === undefined) return {}
    return { authorization: `Bearer ${await this.token()}` }
  }

  async token(): Promise<string> {
    if (this.#token === undefined || this.#token.until < Date.now()) {
      const { id, secret } = this.requireClient()
      const pair = Buffer.from(`${id}:${secret}`).toString('base64')
      const body = requireStatus('getToken', await this.askToken({ authorization: `Basic ${pair}` }), 200)
      const seconds = Number(textOf(body, 'expires_in') || 60)
      this.#token = { value: textOf(body, 'access_token'), until: Date.now() + 1000 * TOKEN_LIFE * seconds }
    }
    return this.#token.value
  }

  requireClient(): { readonly id: string; readonly secret: string; readonly url: string } {
    const { client, tokenUrl: url } = this.setup
    if (client === undefined || url === undefined) throw new NotRun('there is no tokenUrl')
    return { ...client, url }
  }

  /** A request for a token, as D1 makes it. */
  askToken(
    headers: Readonly<Record<string, string>>,
    body = 'grant_type=client_credentials',
  ): Promise<Reply> {
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    return this.wire.ask(this.requireClient().url, { method: 'POST', headers: { ...form, ...headers }, body })
  }

  /** An authorised request. */
  async ask(url: string, { headers, ...more }: Ask = {}): Promise<Reply> {
    return this.wire.ask(url, { ...more, headers: { ...(await this.authorization()), ...headers } })
  }

  /** Set PIN with a body. The PIN that the card has is read before it may be changed for the first time. */
  async put(
    card: Pick<Card, 'cardId'>,
    body: string | Buffer,
    headers?: Readonly<Record<string, string>>,
    query = '',
  ): Promise<Reply> {
    await this.#remember(card.cardId)
    return this.ask(this.pinUrl(card.cardId) + query, {
      method: 'PUT',
      headers: { ...JSON_TYPE, ...headers },
      body,
    })
  }

  /** Get PIN: what it shows, and the ephemeral key it came under. */
  async getPin(card: Card): Promise<{ readonly pin: string; readonly epk: string }> {
    const found = await this.#open(await this.ask(this.pinUrl(card.cardId)), card)
    if (!this.#first.has(card.cardId)) this.#first.set(card.cardId, found.pin)
    return found
  }

  /** The PIN in an answer to Get PIN. */
  async pinIn(reply: Reply, card: Card): Promise<string> {
    return (await this.#open(reply, card)).pin
  }

  async #open(reply: Reply, card: Card): Promise<{ readonly pin: string; readonly epk: string }> {
    const body = requireStatus('getPIN', reply, 200)
    this.requireSilence(reply)
    const { plaintext, epk } = await openAnswer(textOf(body, 'encryptedPinBlock'), this.setup.d1Jwk)
    const { kid, pinValue } = contentOf(plaintext)
    if (kid !== this.setup.zpk.kid) throw new Mismatch('a PIN block whose kid is not that of the key')
    if (typeof pinValue !== 'string' || !/^[0-9A-Fa-f]{16}$/.test(pinValue)) {
      throw new Mismatch('a pinValue that is not 16 hex digits')
    }
    const pin = pinOf(tdea('decipher', this.setup.zpk.key, Buffer.from(pinValue, 'hex')), card.pan)
    if (pin === undefined) throw new Mismatch('no PIN block of this PAN under the key')
    this.#pins.add(pin)
    return { pin, epk }
  }

  /** A card whose PIN can be set back: active, and its PIN may be set as ISO0. */
  #restorable(cardId: string): Card | undefined {
    const card = this.setup.cards.find(candidate => candidate.cardId === cardId)
    return card?.state === 'active' && card.setPinTypes?.includes('ISO0') ? (card as Card) : undefined
  }

  async #remember(cardId: string): Promise<void> {
    const card = this.#restorable(cardId)
    if (card === undefined || this.#first.has(cardId)) return
    try {
      await this.getPin(card)
    } catch {
      // Whatever it was, the case that is about it says so; here it means that there is nothing to set back.
      this.#first.set(cardId, undefined)
    }
  }

  /** The PIN that Get PIN shows. Remembered, if it is the first, to be set back at the end. */
  async shownPin(card: Card): Promise<string> {
    return (await this.getPin(card)).pin
  }

  /** The content of a Set PIN of type ISO0. */
  iso0(card: Card, pin: string): { readonly pinValue: string; readonly kid: string } {
    const { key, kid } = this.setup.zpk
    return { pinValue: tdea('encipher', key, clearBlock(pin, card.pan)).toString('hex').toUpperCase(), kid }
  }

  /** The body of a Set PIN: the content, sealed. */
  async message(type: PinType, content: object | string): Promise<string> {
    return JSON.stringify({ type, encryptedPinBlock: await seal(content, this.setup.issuerJwk) })
  }

  /** Get PIN Change Counter. */
  async counter(card: Pick<Card, 'cardId'>): Promise<Counter> {
    const body = requireStatus('getPINChangeCounter', await this.ask(this.counterUrl(card.cardId)), 200)
    return { pcc: textOf(body, 'pcc'), intdatag: textOf(body, 'intdatag') }
  }

  requireSeccos(): void {
    if (this.setup.seccos === undefined) throw new NotRun('the configuration has no seccos')
  }

  seccosKeys(): SeccosKeys {
    const { seccos } = this.setup
    if (seccos === undefined) throw new NotRun('the configuration has no seccos')
    const { profile } = seccos
    if (typeof profile === 'string') throw new NotRun(profile)
    return { ...seccos, profile }
  }

  /** The content of a Set PIN of type 3DES_SECCOS. */
  seccos(
    card: Card,
    counter: Counter,
    pin: string,
    more?: Partial<SeccosKeys>,
    twist?: Twist,
  ): SeccosContent {
    const { pan, fields = {} } = card
    return seccosContent({ pin, pan, fields, ...counter }, { ...this.seccosKeys(), ...more }, twist)
  }

  /** A PIN of as many digits as another, different from it, that no year looks like. */
  newPin(like: string): string {
    for (;;) {
      const digits = Array.from(like, () => randomInt(10)).join('')
      if (digits === like || /^(?:19|20)\d\d$/.test(digits)) continue
      this.#pins.add(digits)
      return digits
    }
  }

  /** Cards whose PIN may have been changed and can be set back, with the PIN; undefined where it was never shown. */
  get changed(): readonly (readonly [Card, string | undefined])[] {
    return [...this.#first].flatMap(([cardId, pin]) => {
      const card = this.#restorable(cardId)
      return card === undefined ? [] : [[card, pin] as const]
    })
  }

  /** No PIN, PAN, key or token of ours stands in an answer. */
  requireSilence({ status, headers, text }: Reply): void {
    const everything = `${text}\n${Object.values(headers).join('\n')}`
    const shown = this.secrets().some(secret =>
      /^\d{4,12}$/.test(secret) ? new RegExp(`\\b${secret}\\b`).test(text) : everything.includes(secret),
    )
    if (shown) throw new Mismatch(`${status} with a secret in it`)
  }

  /** What no answer may show. */
  secrets(): readonly string[] {
    const { cards, client, zpk, seccos } = this.setup
    const keys = [zpk, ...(seccos ? [seccos.mac, seccos.prw] : [])].map(({ key }) => key.toString('hex'))
    const pans = cards.flatMap(({ pan }) => (pan === undefined ? [] : [pan]))
    const pins = cards.flatMap(({ pin }) => (pin === undefined ? [] : [pin]))
    const forms = keys.flatMap(hex => [hex, hex.toUpperCase()])
    const texts = [client?.secret, this.#token?.value].filter(text => text !== undefined)
    return [...pans, ...pins, ...this.#pins, ...forms, ...texts]
  }
}

function contentOf(plaintext: string): Readonly<Record<string, unknown>> {
  try {
    const content: unknown = JSON.parse(plaintext)
    if (typeof content === 'object' && content !== null) return { ...content }
  } catch {
    // The engine's message would quote it.
  }
  throw new Mismatch('a JWE that does not hold a JSON object')
}
