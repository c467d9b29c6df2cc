/** The simulator against issuers that are sound, and against ones that are not there: results, output, exit codes. */
import { randomBytes } from 'node:crypto'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GROUPS, simulateD1 } from '../../src/cli/d1-simulator/index.js'
import { CASES, runCase } from '../../src/cli/d1-simulator/run.js'
import { main } from '../../src/cli/main.js'
import type { TokenVerdict } from '../../src/d1/endpoints/index.js'
import { keptIo } from './support/io.js'
import { type Issuer, openIssuer } from './support/issuer.js'

const LONG = { timeout: 120_000 }

function otherConfig({ config, folder }: Issuer, changes: object): string {
  const path = join(folder, 'changed.json')
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), ...changes }))
  chmodSync(path, 0o600)
  return path
}

describe('an issuer on this library', () => {
  let issuer: Issuer
  beforeAll(async () => {
    issuer = await openIssuer()
  })
  afterAll(() => issuer.close())

  test('passes every case, twice in a row, and nothing shows a secret', LONG, async () => {
    for (let run = 0; run < 2; run++) {
      const io = keptIo()
      expect(await main(['d1-simulator', '--config', issuer.config], io)).toBe(0)
      expect(io.errors).toEqual([])
      const [table = '', summary] = io.output
      expect(summary).toBe(
        `${CASES.length + 1} passed, 0 failed, 0 not run, in ${/[\d.]+ s$/.exec(summary ?? '')?.[0]}`,
      )
      expect(table.split('\n')).toHaveLength(CASES.length + 3)
      for (const secret of issuer.secrets) expect(io.output.join('\n')).not.toContain(secret)
    }
  })

  test('--json says the same to machines, --only runs some groups', async () => {
    const io = keptIo()
    const args = [
      'd1-simulator',
      '--json',
      '--config',
      issuer.config,
      '--only',
      'get-pin',
      '--only',
      'change-counter',
    ]
    expect(await main(args, io)).toBe(0)
    const { summary, cases } = JSON.parse(io.output.join('\n'))
    expect(summary).toMatchObject({ passed: cases.length, failed: 0, notRun: 0 })
    expect(new Set(cases.map(({ group }: { group: string }) => group))).toEqual(
      new Set(['get-pin', 'change-counter', 'end']),
    )
    expect(Object.keys(cases[0])).toEqual(['group', 'name', 'expected', 'verdict', 'got', 'milliseconds'])
  })

  test('what cannot be run is said with its reason, and is not passed', LONG, async () => {
    const cards = [{ cardId: 'iso0-1', pan: '9999990123456789', state: 'active', setPinTypes: ['ISO0'] }]
    const config = otherConfig(issuer, {
      cards,
      seccos: undefined,
      expired: undefined,
      tokenUrl: undefined,
      client: undefined,
    })
    const results = await simulateD1({ config, warn: () => {} })
    const reasons = new Set(results.filter(({ verdict }) => verdict === 'not run').map(({ got }) => got))
    expect(reasons).toEqual(
      new Set([
        'there is no tokenUrl',
        'there is no absent card',
        'there is no card with a pin',
        'there is no not-active card',
        'there is no pin-change-forbidden card',
        'there is no active card for 3DES_SECCOS alone',
        'there are not 2 active ISO0 cards',
        'the configuration has no seccos',
      ]),
    )
    const io = keptIo()
    expect(await main(['d1-simulator', '--config', config, '--only', 'token'], io)).toBe(1)
    expect(await main(['d1-simulator', '--config', config, '--only', 'token', '--allow-not-run'], io)).toBe(1)
  })

  test('--allow-not-run lets a partial configuration pass', async () => {
    const config = otherConfig(issuer, { expired: {} })
    const args = ['d1-simulator', '--config', config, '--only', 'authorization']
    expect(await main(args, keptIo())).toBe(1)
    const io = keptIo()
    expect(await main([...args, '--allow-not-run'], io)).toBe(0)
    expect(io.output.join('\n')).toMatch(/not run +authorization +an expired token/)
  })

  test.each([
    ['seccos-1 alone', 'there are not 2 active 3DES_SECCOS cards', { expired: {} }, ['seccos-1']],
    ['no card for ISO0', 'there is no active card for ISO0 alone', {}, ['seccos-1', 'seccos-2']],
  ])('with %s: %s', async (_what, reason, changes, cardIds) => {
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const kept = cards.filter(({ cardId }: { cardId: string }) => cardIds.includes(cardId))
    const config = otherConfig(issuer, { ...changes, cards: kept })
    const results = await simulateD1({ config, only: ['set-pin-seccos'], warn: () => {} })
    expect(results.filter(({ verdict }) => verdict === 'failed')).toEqual([])
    expect(results.map(({ got }) => got)).toContain(reason)
  })

  test('a profile beyond the illustrative ones: what needs a PRW is not run, and the entry is named', async () => {
    const profile = JSON.parse(readFileSync(join(issuer.folder, 'profile.json'), 'utf8'))
    writeFileSync(join(issuer.folder, 'x.json'), JSON.stringify({ ...profile, pinBlock: 'iso9564-format-2' }))
    const { seccos } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const config = otherConfig(issuer, { seccos: { ...seccos, profileFile: 'x.json' } })
    const results = await simulateD1({ config, only: ['set-pin-seccos', 'change-counter'], warn: () => {} })
    const notRun = results.filter(({ verdict }) => verdict === 'not run')
    expect(new Set(notRun.map(({ group }) => group))).toEqual(new Set(['set-pin-seccos']))
    expect(new Set(notRun.map(({ got }) => got))).toEqual(
      new Set([
        'the simulator cannot compute by this profile: /pinBlock must be iso9564-format-0 or digits-bcd',
      ]),
    )
  })

  test('a card without the fields of the profile', async () => {
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const bare = cards.map(({ fields: _, ...card }: { fields: unknown }) => card)
    const config = otherConfig(issuer, { cards: bare })
    const results = await simulateD1({ config, only: ['uniform'], warn: () => {} })
    expect(results.map(({ got }) => got)).toContain('a card has no value for the field psn')
  })

  test('another PIN than the configuration states is a failure', async () => {
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const config = otherConfig(issuer, { cards: [{ ...cards[0], pin: '0000' }, ...cards.slice(1)] })
    const results = await simulateD1({ config, only: ['get-pin'], warn: () => {} })
    expect(results[0]).toMatchObject({ name: "shows each card's PIN", verdict: 'failed', got: 'another PIN' })
  })

  test('secret files that others may read are warned of on standard error', async () => {
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o644)
    const io = keptIo()
    await main(['d1-simulator', '--config', issuer.config, '--only', 'change-counter'], io)
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o600)
    expect(io.errors).toEqual(['warning: zpk.hex can be read by others than its owner: chmod 600'])
  })
})

test('an issuer by the AES profile passes every case', LONG, async () => {
  const issuer = await openIssuer({ profile: 'aes' })
  const results = await simulateD1({ config: issuer.config, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test(
  'an issuer by client certificate alone, under a prefix, passes all but the cases about tokens',
  LONG,
  async () => {
    const issuer = await openIssuer({
      endpoints: () => ({ authorization: 'mtls-only', tokenEndpoint: undefined as never, prefix: '/d1' }),
    })
    const { url } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const config = otherConfig(issuer, { url: `${url}/d1/`, tokenUrl: undefined, client: undefined })
    const results = await simulateD1({ config, warn: () => {} })
    expect(results.filter(({ verdict }) => verdict === 'failed')).toEqual([])
    const notRun = results.filter(({ verdict }) => verdict === 'not run')
    expect(new Set(notRun.map(({ got }) => got))).toEqual(new Set(['there is no tokenUrl']))
    await issuer.close()
  },
)

test('an issuer with tokens that are no JWTs passes the cases about them', LONG, async () => {
  const issued = new Set<string>()
  const tokens = {
    issue: async () => {
      const token = randomBytes(24).toString('base64url')
      issued.add(token)
      return { token, expiresInSeconds: 900, expiresAt: Date.now() + 900_000 }
    },
  }
  const verify = async (token: string): Promise<TokenVerdict> =>
    issued.has(token) ? { verified: true } : { verified: false, reason: 'unknown' }
  const issuer = await openIssuer({
    endpoints: ({ tokenEndpoint }) => ({
      authorization: { bearer: { verify } },
      tokenEndpoint: { clients: tokenEndpoint?.clients ?? [], tokens },
    }),
  })
  const results = await simulateD1({
    config: issuer.config,
    only: ['token', 'authorization'],
    warn: () => {},
  })
  expect(results.filter(({ verdict }) => verdict !== 'passed')).toEqual([])
  await issuer.close()
})

test.each([
  [
    'an error of the simulator itself',
    new RangeError('4929123456789012'),
    'the simulator itself failed: RangeError',
  ],
  ['what is no error', '4929123456789012', 'the simulator itself failed: unknown'],
])('%s fails the case, by its name alone', async (_what, thrown, got) => {
  const item = { group: 'x', name: 'y', expected: 'z', run: () => Promise.reject(thrown) }
  expect(await runCase({} as never, item)).toMatchObject({ verdict: 'failed', got })
})

test('an issuer that is not there fails every case, as no answer', LONG, async () => {
  const issuer = await openIssuer()
  const config = otherConfig(issuer, { url: 'https://127.0.0.1:9', tokenUrl: 'https://127.0.0.1:9/token' })
  const io = keptIo()
  expect(await main(['d1-simulator', '--config', config], io)).toBe(1)
  const results = await simulateD1({ config, warn: () => {} })
  expect(results.filter(({ verdict }) => verdict === 'passed')).toEqual([])
  expect(new Set(results.map(({ got }) => got))).toEqual(new Set(['no answer: ECONNREFUSED', 'no answer']))
  await issuer.close()
})

test('an issuer whose certificate is of another CA fails every case', LONG, async () => {
  const issuer = await openIssuer()
  const { tls } = JSON.parse(readFileSync(issuer.config, 'utf8'))
  const config = otherConfig(issuer, { tls: { ...tls, ca: tls.cert } })
  const results = await simulateD1({ config, only: ['get-pin', 'connection'], warn: () => {} })
  expect(results.filter(({ verdict, group }) => verdict === 'passed' && group === 'get-pin')).toEqual([])
  expect(results.map(({ verdict }) => verdict)).toContain('failed')
  await issuer.close()
})

test('an issuer that never answers fails within the time', LONG, async () => {
  const issuer = await openIssuer({ handler: () => () => new Promise(() => {}) })
  const config = otherConfig(issuer, { timeouts: { requestMs: 200, slowBodyMs: 200 } })
  const results = await simulateD1({ config, only: ['get-pin', 'paths', 'slow'], warn: () => {} })
  expect(results.filter(({ verdict }) => verdict !== 'failed')).toEqual([])
  expect(new Set(results.map(({ got }) => got))).toEqual(new Set(['no answer: TIMEOUT']))
  await issuer.close()
})

test('the cases are in the order of the groups, and each has a name of its own in its group', () => {
  const order = CASES.map(({ group }) => GROUPS.indexOf(group))
  expect(order).toEqual([...order].sort((a, b) => a - b))
  const names = CASES.map(({ group, name }) => `${group}: ${name}`)
  expect(new Set(names).size).toBe(names.length)
})
