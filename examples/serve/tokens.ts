/** The bearer tokens that D1 fetches here, and the secret with which it does. */
import { randomBytes } from 'node:crypto'
import { type OwnTokens, ownTokens } from 'issuer-pin-crypto/d1'
import type { Folder, NewFile } from './folder.js'

const KEY = 'token-key.hex'
export const CLIENT = { clientId: 'd1', secretFile: 'client-secret.txt' } as const

export function makeTokenSecrets(): readonly NewFile[] {
  return [
    { name: KEY, text: randomBytes(32).toString('hex') },
    { name: CLIENT.secretFile, text: randomBytes(24).toString('base64url') },
  ]
}

/** Issues and verifies. The names in it stay the same, so that a token outlives a restart on another port. */
export function openTokens(folder: Folder, now: () => number = Date.now): Promise<OwnTokens> {
  return ownTokens({
    algorithm: 'HS256',
    keys: [{ kty: 'oct', kid: 'T-1', k: Buffer.from(folder.read(KEY), 'hex').toString('base64url') }],
    issuer: 'https://localhost/authz/d1/v1',
    audience: 'https://localhost',
    lifetimeSeconds: 900,
    now,
  })
}
