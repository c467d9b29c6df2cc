/** Below the library: objects as another tool would have made them, and counts of what the token holds. */

import type { Station, Template } from '../src/backend/pkcs11/binding/binding.js'
import { CKA, CKK, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import { findObjects } from '../src/backend/pkcs11/mechanisms/objects.js'
import { connect } from '../src/backend/pkcs11/session/connection.js'
import { readSettings } from '../src/backend/pkcs11/session/options.js'
import type { Pkcs11Options } from '../src/pkcs11.js'

/** Runs on a read-write session of a logged-in token. */
export async function onToken<T>(options: Pkcs11Options, use: (station: Station) => T): Promise<T> {
  const connection = await connect(readSettings(options, 'test'), loadPkcs11js)
  const sessions = connection.source(true)
  const session = sessions.open()
  try {
    return use({ binding: connection.binding, session })
  } finally {
    sessions.close(session)
    connection.close()
  }
}

/** A two-key TDEA token object of our test key, with attributes as a careless tool would set them. */
export function strayKey(label: string, attributes: Template, value: Uint8Array = TEST_KEY): Template {
  const given = new Map(attributes)
  const usual: Template = [
    [CKA.CLASS, CKO.SECRET_KEY],
    [CKA.KEY_TYPE, CKK.DES2],
    [CKA.TOKEN, true],
    [CKA.PRIVATE, true],
    [CKA.SENSITIVE, true],
    [CKA.EXTRACTABLE, false],
    [CKA.ENCRYPT, true],
    [CKA.DECRYPT, false],
    [CKA.SIGN, false],
    [CKA.VERIFY, false],
    [CKA.WRAP, false],
    [CKA.UNWRAP, false],
    [CKA.DERIVE, false],
    [CKA.LABEL, label],
    [CKA.ID, Buffer.from('stray')],
    [CKA.VALUE, value],
  ]
  return [...usual.filter(([type]) => !given.has(type)), ...attributes]
}

/** KCV 08D7B4. */
export const TEST_KEY: Uint8Array = Uint8Array.from(Buffer.from('0123456789ABCDEFFEDCBA9876543210', 'hex'))

/** Sessions the token counts for this process, and objects it shows (session objects included). */
export async function census(options: Pkcs11Options): Promise<{ sessions: number; objects: number }> {
  const connection = await connect(readSettings(options, 'test'), loadPkcs11js)
  const { binding, slot } = connection
  const sessions = connection.source(false)
  const session = sessions.open()
  try {
    return {
      sessions: binding.C_GetTokenInfo(slot).sessions,
      objects: findObjects(binding, session, [], 1_000_000).length,
    }
  } finally {
    sessions.close(session)
    connection.close()
  }
}
