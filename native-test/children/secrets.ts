import { readFileSync } from 'node:fs'

/** What the heap test plants, as its children read it from a file. */
export interface Secrets {
  readonly module: string
  readonly token: string
  readonly userPin: string
  readonly tdea: { readonly pin: string; readonly mac: string }
  readonly jwk: {
    readonly kty: 'EC'
    readonly crv: 'P-256'
    readonly x: string
    readonly y: string
    readonly d: string
  }
}

export function readSecrets(): Secrets {
  const { SECRETS = '' } = process.env
  return JSON.parse(readFileSync(SECRETS, 'utf8'))
}
