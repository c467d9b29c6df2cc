import { readFile } from 'node:fs/promises'
import type { Pkcs11Options } from 'issuer-pin-crypto/pkcs11'

const { PKCS11_MODULE = '', PKCS11_TOKEN = 'issuer', PKCS11_PIN_FILE = '' } = process.env

/** Your token, told by its label. Exactly one must match, and it is never chosen by slot number. */
export const TOKEN: Pkcs11Options = {
  module: PKCS11_MODULE,
  token: PKCS11_TOKEN,
  // Called late, for each login; the PIN is not kept.
  pin: async () => (await readFile(PKCS11_PIN_FILE, 'utf8')).trim(),
}
