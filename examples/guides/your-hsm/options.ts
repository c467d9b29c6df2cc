import type { Pkcs11Options } from 'issuer-pin-crypto/pkcs11'
import { TOKEN } from './token.js'

/** A retail MAC by the vendor's own mechanism, used only if it gives the known answer of ISO/IEC 9797-1. */
export const UTIMACO: Pkcs11Options = { ...TOKEN, retailMac: 'utimaco' }

/** A login role of the vendor's: here the Crypto User of a Luna partition. */
export const LUNA: Pkcs11Options = { ...TOKEN, userType: 0x8000_0001, sessions: { max: 8 } }

/** A token that gives out read-write sessions only, and few of them. */
export const FEW_SESSIONS: Pkcs11Options = {
  ...TOKEN,
  sessions: { max: 2, queue: 200, waitMs: 2000, readWrite: true },
}

/** Objects that another tool has named: by kid, the label and the CKA_ID in hex. */
export const NAMED_ELSEWHERE: Pkcs11Options = {
  ...TOKEN,
  keys: { 'ZPK-D1-2026': { label: 'thales zone pin key', id: '5A504B2D32303236' } },
}

/** Two tokens of one label: the serial number decides. */
export const BY_SERIAL: Pkcs11Options = { ...TOKEN, token: { label: 'issuer', serial: 'A1B2C3D4' } }

/** What weakens something, and is therefore asked for by name. Read SECURITY.md before you write one of these. */
export const OPT_INS: Pkcs11Options = {
  ...TOKEN,
  composedMac: true,
  translateInToken: true,
  extractSharedSecret: true,
}
