/**
 * What docs/operations.md tells an operator is there: each state, channel, error, option and default that it names is the
 * code's, and no state of the code is missing from it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { VENDORS } from '../../src/backend/pkcs11/mechanisms/plan.js'
import { PKCS11_OPTIONS } from '../../src/backend/pkcs11/session/options.js'
import { DEFAULTS } from '../../src/base/defaults.js'
import { someOf } from '../support/some-of.js'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
const PAGE = read('docs/operations.md')
const FOLDER = new URL('../../src/backend/', import.meta.url).pathname
const CODE = readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })
  .filter(path => path.endsWith('.ts'))
  .map(path => readFileSync(join(FOLDER, path), 'utf8'))
  .join('\n')

/** First cells of the table under a line that begins so. */
function firstCells(heading: string): string[] {
  const from = PAGE.indexOf(heading)
  expect(from, heading).toBeGreaterThan(0)
  const table = /(?:^\|.*\n)+/m.exec(PAGE.slice(from))?.[0] ?? ''
  return table
    .trim()
    .split('\n')
    .slice(2)
    .map(row => row.split('|')[1]?.trim() ?? '')
}

/** The members of a union of strings, as the code writes it. */
function union(name: string): string[] {
  const members = new RegExp(`export type ${name} = ([^\\n]*)`).exec(CODE)?.[1] ?? ''
  return [...members.matchAll(/'([^']+)'/g)].map(([, member = '']) => member)
}

describe('the runbook', () => {
  test('has every state of a backend and of a member, and no other', () => {
    const states = firstCells('State of a backend').flatMap(cell => /^`([a-z]+)`/.exec(cell)?.[1] ?? [])
    expect([...new Set(states)].sort()).toEqual(union('BackendState').sort())
    const members = firstCells('Members of a group').map(cell => cell.replaceAll('`', ''))
    expect(members.sort()).toEqual(union('MemberState').sort())
  })

  test('says of a key in an event and of a refused PIN what the code publishes', () => {
    expect(firstCells('State of a backend')).toContain('any, with `key`')
    expect(CODE).toMatch(/readonly key\?: string/)
    expect(firstCells('State of a backend')).toContain('`degraded`, `ERR_PKCS11_LOGIN`')
  })

  test('names channels, errors and words of health() that are there', () => {
    const channels = [...PAGE.matchAll(/`(issuer-pin-crypto:[a-z0-9-]+)`/g)].map(([, name = '']) => name)
    expect(channels.length).toBeGreaterThan(1)
    for (const name of channels) expect(CODE).toContain(`'${name}'`)
    const codes = new Set([...PAGE.matchAll(/ERR_[A-Z0-9_]+/g)].map(([code]) => code))
    expect(codes.size).toBeGreaterThan(4)
    for (const code of codes) expect(CODE).toContain(`'${code}'`)
    expect(PAGE).toContain('`calls have hung`')
    expect(CODE).toContain('calls have hung')
  })

  test('names options that there are, and figures that are the defaults', () => {
    const { pkcs11 } = DEFAULTS
    const groups = { timeouts: ['callMs', 'openMs', 'closeMs'], sessions: ['max', 'queue', 'waitMs'] }
    for (const [group, names] of Object.entries(groups)) {
      expect(PKCS11_OPTIONS).toContain(group)
      for (const [, name = ''] of someOf(PAGE.matchAll(new RegExp(`\`${group}\\.([A-Za-z]+)\``, 'g'))))
        expect(names).toContain(name)
    }
    for (const [, name = ''] of someOf(PAGE.matchAll(/`(binding|spare|executor): [^`]+`/g)))
      expect(PKCS11_OPTIONS).toContain(name)
    for (const name of ['keepAliveMs', 'spare', 'binding', 'executor']) {
      expect(PAGE).toContain(name)
      expect(PKCS11_OPTIONS).toContain(name)
    }
    // "At least every half second", "more than two seconds": what the supervisor's pauses add up to.
    expect(PAGE).toContain('at least every half second')
    expect(pkcs11.longestPauseMs.value).toBe(500)
  })

  test('sends to a page for each vendor of the table', () => {
    const vendors = read('docs/vendors.md')
    for (const name of Object.keys(VENDORS)) expect(vendors).toContain(`\`vendor: '${name}'\``)
    expect(PAGE).toContain('(vendors.md)')
  })

  test('measurements that it sends to are there', () => {
    for (const [, path = ''] of someOf(PAGE.matchAll(/\]\((measurements\/[^)]+)\)/g)))
      expect(read(`docs/${path}`).length).toBeGreaterThan(100)
  })
})
