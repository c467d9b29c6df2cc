/**
 * The simulator's configuration: one JSON file that names everything D1 would know of an issuer and its test cards.
 *
 * Paths are relative to the folder of that file. Unknown members are errors. What holds a secret (marked so below) is
 * a file of its own, never a member, and should be readable by its owner only; the simulator warns where it is not.
 * The configuration holds PANs and PINs of test cards, so the same goes for it. No production key, card or PIN belongs
 * into any of this: the simulator changes PINs.
 */

/** A key that the issuer and D1 share, by name. */
export interface SharedKeyConfig {
  /** As it stands in messages: 1 to 128 characters. */
  readonly kid: string
  /** Hex digits of the key, white space at the ends aside. Secret. */
  readonly file: string
}

/** What the issuer's state of a card is meant to be; the words of the endpoints' `CardState`, and `absent`. */
export type ConfiguredState = 'active' | 'pin-change-forbidden' | 'not-active' | 'absent'

/** How the PIN of a card may be set: the types of the API. */
export type PinType = 'ISO0' | '3DES_SECCOS'

/** A test card. */
export interface CardConfig {
  /** `^[A-Za-z0-9_-]{1,48}$`. */
  readonly cardId: string
  /** `absent`: the issuer has no card by this id. */
  readonly state: ConfiguredState
  /** 12 to 19 digits. Required unless the card is absent. */
  readonly pan?: string
  /** Required unless the card is absent. */
  readonly setPinTypes?: readonly PinType[]
  /**
   * The PIN that Get PIN shows now, 4 to 12 digits, where it is known. Cards whose PIN is set as ISO0 get theirs back
   * at the end of a run, whether it is stated here or not.
   */
  readonly pin?: string
  /** What the profile's own fields hold for this card, by id: text, or hex digits for `binary` fields. */
  readonly fields?: Readonly<Record<string, string>>
}

/** The whole file. */
export interface SimulatorConfig {
  /** `https://host:port`, with what the issuer has before `/cms/api/v1/…`, if anything. */
  readonly url: string
  /** The issuer's token endpoint, in full. Absent: the issuer authorises by client certificate alone. */
  readonly tokenUrl?: string
  /** Exactly 10 characters. */
  readonly issuerId: string
  /** D1's credentials at the token endpoint; there with `tokenUrl` and only then. */
  readonly client?: {
    readonly id: string
    /** The client secret as text, line ends at the end aside. Secret. */
    readonly secretFile: string
  }
  /** PEM files. */
  readonly tls: {
    /** D1's client certificate, with intermediates if there are any. */
    readonly cert: string
    /** Its private key. Secret. */
    readonly key: string
    /** The authorities that may have signed the issuer's server certificate. */
    readonly ca: string
  }
  /** The issuer's public P-256 key as a JWK with `kid`: Set PIN is sealed to it. */
  readonly issuerJwkFile: string
  /** D1's private P-256 key as a JWK with `kid`: Get PIN must be sealed to it. Secret. */
  readonly d1JwkFile: string
  /** The TDEA key for PIN blocks: 32 or 48 hex digits. */
  readonly zpk: SharedKeyConfig
  /** Absent: the issuer does not offer 3DES_SECCOS, and its cases are not run. */
  readonly seccos?: {
    /**
     * A profile (`seccos-profile.schema.json`). The simulator computes PRWs by code of its own, which knows what the
     * two illustrative profiles use and no more; with another profile, cases that need a PRW are not run, and say why.
     */
    readonly profileFile: string
    /** As many bytes as the profile's `mac.keyBytes`. */
    readonly mac: SharedKeyConfig
    /** As many bytes as the profile's `prw.keyBytes`. */
    readonly prw: SharedKeyConfig
  }
  /**
   * Somebody else whom D1's CA has certified: another issuer. Where it is left out, whether such a certificate is refused is
   * not tried, and the simulator says so.
   */
  readonly other?: {
    /** Its certificate, PEM. */
    readonly cert: string
    /** Its private key. Secret. */
    readonly key: string
    /** An access token that the issuer's token endpoint gave to somebody else than D1. Secret. */
    readonly tokenFile?: string
  }
  /** Things that were good once. They cannot be made from outside: keep an old one. */
  readonly expired?: {
    /** An access token that the issuer's own token endpoint issued and whose life is over. Secret. */
    readonly tokenFile?: string
    /**
     * An answer of Get PIN Change Counter that was not used and whose life is over, of an active 3DES_SECCOS card in
     * `cards`. An accepted Set PIN of that card makes it useless, so give it a card of its own.
     */
    readonly counter?: { readonly cardId: string; readonly pcc: string; readonly intdatag: string }
  }
  /** At least one. */
  readonly cards: readonly CardConfig[]
  /** Milliseconds. */
  readonly timeouts?: {
    /** The longest that a sound request may take; 10,000 where absent. */
    readonly requestMs?: number
    /** By when the issuer must have ended a request that comes in drop by drop; 15,000 where absent. */
    readonly slowBodyMs?: number
  }
}

/** What holds where the configuration says nothing. */
export const DEFAULT_TIMEOUTS: { readonly requestMs: number; readonly slowBodyMs: number } = {
  requestMs: 10_000,
  slowBodyMs: 15_000,
}
