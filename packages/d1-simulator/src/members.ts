/**
 * The members of the configuration that can stand on the command line: by which option, what it is given, and when it
 * must be there. Reading, the complaint about what is missing and `--help` come from this table.
 *
 * What is secret, and what holds PANs, is given as a file and in no other way: a command line stands in the shell's
 * history and in the list of processes.
 */
import { resolve } from 'node:path'
import { ConfigError } from './problems.js'

export interface MemberOption {
  /** The way to the member, from the root. */
  readonly member: readonly string[]
  /** `FILE`: a path, relative to the working directory. `JSON`: a file that holds the member itself. */
  readonly given: 'TEXT' | 'NUMBER' | 'FILE' | 'JSON'
  /** When the configuration must have it: always, or with any other member of the same part. */
  readonly part?: 'always' | 'tokens' | 'seccos' | 'other'
  readonly says: string
}

/** By option. */
export const MEMBER_OPTIONS: Readonly<Record<string, MemberOption>> = {
  url: { member: ['url'], given: 'TEXT', part: 'always', says: "the issuer's service, https" },
  'token-url': { member: ['tokenUrl'], given: 'TEXT', part: 'tokens', says: 'its token endpoint, in full' },
  'issuer-id': { member: ['issuerId'], given: 'TEXT', part: 'always', says: '10 characters' },
  'client-id': { member: ['client', 'id'], given: 'TEXT', part: 'tokens', says: 'D1 at the token endpoint' },
  'client-secret-file': {
    member: ['client', 'secretFile'],
    given: 'FILE',
    part: 'tokens',
    says: 'its secret there',
  },
  cert: { member: ['tls', 'cert'], given: 'FILE', part: 'always', says: "D1's client certificate, PEM" },
  key: { member: ['tls', 'key'], given: 'FILE', part: 'always', says: 'its private key, PEM' },
  ca: { member: ['tls', 'ca'], given: 'FILE', part: 'always', says: "CA of the service's certificate, PEM" },
  'issuer-jwk': {
    member: ['issuerJwkFile'],
    given: 'FILE',
    part: 'always',
    says: "the issuer's public P-256 key",
  },
  'd1-jwk': { member: ['d1JwkFile'], given: 'FILE', part: 'always', says: "D1's private P-256 key" },
  'zpk-kid': { member: ['zpk', 'kid'], given: 'TEXT', part: 'always', says: 'name of the key of PIN blocks' },
  'zpk-file': { member: ['zpk', 'file'], given: 'FILE', part: 'always', says: 'that key, in hex' },
  profile: { member: ['seccos', 'profileFile'], given: 'FILE', part: 'seccos', says: 'SECCOS profile' },
  'mac-kid': { member: ['seccos', 'mac', 'kid'], given: 'TEXT', part: 'seccos', says: 'name of its MAC key' },
  'mac-file': { member: ['seccos', 'mac', 'file'], given: 'FILE', part: 'seccos', says: 'that key, in hex' },
  'prw-kid': { member: ['seccos', 'prw', 'kid'], given: 'TEXT', part: 'seccos', says: 'name of its PRW key' },
  'prw-file': { member: ['seccos', 'prw', 'file'], given: 'FILE', part: 'seccos', says: 'that key, in hex' },
  'other-cert': {
    member: ['other', 'cert'],
    given: 'FILE',
    part: 'other',
    says: "another caller's certificate",
  },
  'other-key': { member: ['other', 'key'], given: 'FILE', part: 'other', says: 'its private key, PEM' },
  'other-token-file': { member: ['other', 'tokenFile'], given: 'FILE', says: 'a token of that caller' },
  'expired-token-file': { member: ['expired', 'tokenFile'], given: 'FILE', says: 'a token of old' },
  'expired-counter': { member: ['expired', 'counter'], given: 'JSON', says: 'a change counter of old' },
  cards: { member: ['cards'], given: 'JSON', part: 'always', says: 'the list of test cards' },
  'request-ms': { member: ['timeouts', 'requestMs'], given: 'NUMBER', says: 'how long an answer may take' },
  'slow-body-ms': {
    member: ['timeouts', 'slowBodyMs'],
    given: 'NUMBER',
    says: 'when a drip must have ended',
  },
}

/** What stands on a command line for members of the configuration, by option. */
export type GivenMembers = Readonly<Record<string, string>>

const ROWS: readonly (MemberOption & { readonly option: string })[] = Object.entries(MEMBER_OPTIONS).map(
  ([option, row]) => ({ option, ...row }),
)

type Members = Readonly<Record<string, unknown>>

const isMembers = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A configuration with members from the command line, in place of its own or besides them. `readJson` reads a file. */
export function withMembers(
  document: unknown,
  given: GivenMembers,
  readJson: (file: string) => unknown,
): unknown {
  let merged = document
  for (const { option, member, given: kind } of ROWS) {
    const text = given[option]
    if (text !== undefined) merged = put(merged, member, memberValue(kind, text, readJson))
  }
  return merged
}

/** Errors: `ERR_CONFIG` where a configuration lacks anything that must be there, all of it by member and option. */
export function requireMembers(document: unknown): void {
  const missing = ROWS.filter(row => isNeeded(document, row) && isMissing(document, row.member))
  if (missing.length === 0) return
  const names = missing.map(({ member, option }) => `/${member.join('/')} (--${option})`)
  throw new ConfigError(`the configuration lacks ${names.join(', ')}`)
}

function memberValue(
  kind: MemberOption['given'],
  text: string,
  readJson: (file: string) => unknown,
): unknown {
  if (kind === 'NUMBER') return Number(text)
  if (kind === 'TEXT') return text
  const path = resolve(text)
  return kind === 'FILE' ? path : readJson(path)
}

/** What is there and no object is left as it is: the reader of the configuration says what it must be. */
function put(target: unknown, [name, ...rest]: readonly string[], value: unknown): unknown {
  if (name === undefined) return value
  if (target !== undefined && !isMembers(target)) return target
  return { ...target, [name]: put(target?.[name], rest, value) }
}

function isMissing(target: unknown, [name, ...rest]: readonly string[]): boolean {
  if (target === undefined) return true
  return name !== undefined && isMembers(target) && isMissing(target[name], rest)
}

function isNeeded(document: unknown, { part }: MemberOption): boolean {
  if (part === undefined || part === 'always') return part === 'always'
  return ROWS.some(row => row.part === part && !isMissing(document, row.member))
}

/** The options for `--help`, a line each: option, member, what it is. */
export function memberHelp(): string {
  const lines = ROWS.map(({ option, member, given, says }) => {
    const call = `--${option} ${given === 'JSON' ? 'FILE' : given}`
    return `  ${call.padEnd(26)}  ${member.join('.').padEnd(19)}  ${says}`
  })
  return lines.join('\n')
}
