/**
 * Who the issuer is: of its own making, or as the folder of `issuer-pin-crypto onboard` says, with the key that D1 seals to
 * and the token that it is in. Of what is wrong with such a folder nothing is quoted.
 */
import type { JsonWebKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Folder, NewFile } from './folder.js'
import { UsageError } from './options.js'

/** What D1 knows the issuer by; kept in the folder of `serve`, so that a later start is the same issuer. */
export interface Identity {
  readonly issuerId: string
  /** The key that D1 seals to, and its RFC 7638 thumbprint where D1 has been told it. */
  readonly jweKid: string
  readonly jweThumbprint?: string
}

/** What a folder of `onboard` says. */
export interface Onboarded {
  readonly identity: Identity
  /** The private key, of test keys in software. */
  readonly jwk?: JsonWebKey
  /** How the token is opened, without its PIN. */
  readonly token?: { readonly module: string; readonly token: string }
}

export const TEST_ISSUER: Identity = { issuerId: 'is_tbank01', jweKid: 'ISSUER-JWE' }
const IDENTITY = 'identity.json'

/** Reads a folder of `onboard`. Throws {@link UsageError}. */
export function readOnboarded(path: string): Onboarded {
  const { issuerId, jwe } = read(path, 'onboarding.json') as {
    issuerId?: string
    jwe?: { kid: string; thumbprint: string; in: string }
  }
  if (issuerId === undefined || jwe === undefined)
    throw new UsageError('--onboarding: the folder is none that issuer-pin-crypto onboard has made')
  const identity = { issuerId, jweKid: jwe.kid, jweThumbprint: jwe.thumbprint }
  if (jwe.in === 'token')
    return { identity, token: read(path, 'token.json') as NonNullable<Onboarded['token']> }
  const keys = read(path, 'keys.json')
  const own = (Array.isArray(keys) ? keys : []).find(
    key => key?.kid === jwe.kid && key.usage === 'jwe-key-agreement',
  )
  if (own === undefined) throw new UsageError(`--onboarding: the folder has no key ${jwe.kid}`)
  return { identity, jwk: own.material }
}

function read(path: string, name: string): unknown {
  try {
    const found: unknown = JSON.parse(readFileSync(join(path, name), 'utf8'))
    return Object(found)
  } catch {
    throw new UsageError(`--onboarding: the folder has no ${name} that reads`)
  }
}

/** The identity as a file of a new folder. */
export function identityFile(identity: Identity): NewFile {
  return { name: IDENTITY, text: JSON.stringify(identity), public: true }
}

/** The identity that the folder was made with. Throws {@link UsageError} where the command line names another. */
export function identityIn(folder: Folder, onboarded: Onboarded | undefined): Identity {
  const there = folder.readJson<Identity>(IDENTITY)
  const { issuerId, jweKid, jweThumbprint } = onboarded?.identity ?? there
  if (issuerId !== there.issuerId || jweKid !== there.jweKid || jweThumbprint !== there.jweThumbprint)
    throw new UsageError(
      `${folder.path} was made for another issuer than --onboarding names: take another --dir`,
    )
  return there
}
