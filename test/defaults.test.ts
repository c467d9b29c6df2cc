/**
 * The defaults: one table, used by the code and shown in docs/defaults.md. `npx vitest run --project 'unit*'
 * test/defaults.test.ts -u` writes the page anew.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { DEFAULTS, type Default } from '../src/base/defaults.js'

const SRC = new URL('../src', import.meta.url).pathname
const ROOMS: Readonly<Record<string, Readonly<Record<string, Default>>>> = DEFAULTS
const TITLES: Readonly<Record<string, string>> = {
  client: 'Calling D1',
  endpoints: 'Answering D1',
  tokens: 'Tokens and client secrets',
  d1Keys: 'D1’s public keys',
  tools: 'Tools',
  keys: 'Keys',
  counter: 'The PIN change counter',
  stores: 'Stores',
  pkcs11: 'PKCS#11',
}
const EVERY = Object.entries(ROOMS).flatMap(([room, rows]) =>
  Object.entries(rows).map(([name, row]) => ({ room, name, row })),
)

/** As a person says it: 15 s, 10 min, 7 days. */
function spoken({ value, unit }: Default): string {
  if (unit === 'count') return String(value)
  const ms = value * { ms: 1, s: 1000, days: 86_400_000 }[unit]
  const units = [
    ['days', 86_400_000],
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1000],
  ] as const
  const [name, size] = units.find(([, size]) => ms >= size && ms % size === 0) ?? ['ms', 1]
  return `${ms / size} ${name}`
}

function page(): string {
  const parts = Object.entries(ROOMS).map(([room, rows]) => {
    const lines = Object.values(rows).map(row => {
      const option = row.option === undefined ? 'fixed' : `\`${row.option}\``
      return `| ${spoken(row)} | ${option} | ${row.what} |`
    })
    return [
      `## ${TITLES[room]}`,
      '',
      '| Default | Option | What happens |',
      '| --- | --- | --- |',
      ...lines,
    ].join('\n')
  })
  const head =
    '# Defaults\n\nEvery time and limit that applies where you say nothing. The table is made from `src/base/defaults.ts`, which the code reads.'
  return `${[head, ...parts].join('\n\n')}\n`
}

test('the page shows the table', async () => {
  await expect(page()).toMatchFileSnapshot('../docs/defaults.md')
})

test.each(EVERY)('$room, $name: its name says its unit, its text what happens', ({ name, row }) => {
  const unit = /Ms$/.test(name) ? 'ms' : /Seconds$/.test(name) ? 's' : /Days$/.test(name) ? 'days' : 'count'
  expect(row.unit).toBe(unit)
  expect(Number.isSafeInteger(row.value) && row.value > 0).toBe(true)
  expect(row.what).toMatch(/^[A-Z].{20,}\.$/)
  expect(row.option ?? 'some: option').toMatch(/^\w+: [\w.]+$/)
})

test('every default is used, by its name, and once as a rule', () => {
  const texts = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts') && path !== 'base/defaults.ts')
    .map(path => readFileSync(join(SRC, path), 'utf8'))
    .join('\n')
  const unused = EVERY.filter(
    ({ room, name }) => !new RegExp(`DEFAULTS\\s*\\.${room}\\s*\\.${name}\\.value`).test(texts),
  )
  expect(unused.map(({ room, name }) => `${room}.${name}`)).toEqual([])
})

/** A time that is no default: a bound on what may be asked for, an arithmetic unit, or said why. */
const NO_DEFAULT = /\b(?:MAX|LONGEST|MIN)_|\b(?:DAY|HOUR|MINUTE|FIFTY_YEARS)_MS\b|\bmax: |\bmin: /

test('no time is written into the code beside the table', () => {
  const found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts') && path !== 'base/defaults.ts' && !path.startsWith('testing/'))
    .flatMap(path =>
      readFileSync(join(SRC, path), 'utf8')
        .split('\n')
        .filter(line => /(?:Ms|Seconds|Days|_MS|_SECONDS|_DAYS)\s*(?:=|\?\?|:)\s*[1-9][\d_]*\b/.test(line))
        .filter(line => !/^\s*(?:\*|\/\/)/.test(line) && !NO_DEFAULT.test(line))
        .map(line => `${path}: ${line.trim()}`),
    )
  expect(found).toEqual([])
})
