/** Below the library: objects as another tool would have made them, and counts of what the token holds. */

import { createRequire } from 'node:module'
import type * as Pkcs11js from 'pkcs11js'
import type { LoadBinding, Station, Template } from '../src/backend/pkcs11/binding/binding.js'
import { CKA, CKF, CKK, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { loadPkcs11js } from '../src/backend/pkcs11/binding/pkcs11js-binding.js'
import { findObjects } from '../src/backend/pkcs11/mechanisms/objects.js'
import { Connection } from '../src/backend/pkcs11/session/connection.js'
import { readSettings } from '../src/backend/pkcs11/session/options.js'
import type { Pkcs11Options } from '../src/pkcs11.js'

/** Runs on a read-write session of a logged-in token. */
export async function onToken<T>(
  options: Pkcs11Options,
  use: (station: Station) => T,
  load: LoadBinding = loadPkcs11js,
): Promise<T> {
  const connection = await Connection.open(readSettings(options, 'test'), load)
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
    [CKA.MODIFIABLE, false],
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
  const connection = await Connection.open(readSettings(options, 'test'), loadPkcs11js)
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

/** What another user of the library in this process can do to us. */
export async function disturb(options: Pkcs11Options, way: string): Promise<void> {
  const { PKCS11 } = createRequire(import.meta.url)('pkcs11js') as typeof Pkcs11js
  const library = new PKCS11()
  library.load(options.module)
  for (const slot of library.C_GetSlotList(true)) {
    if (way === 'C_CloseAllSessions') library.C_CloseAllSessions(slot)
    else {
      if ((library.C_GetTokenInfo(slot).flags & CKF.TOKEN_INITIALIZED) === 0) continue
      const session = library.C_OpenSession(slot, CKF.SERIAL_SESSION)
      library.C_Logout(session)
      library.C_CloseSession(session)
    }
  }
}
