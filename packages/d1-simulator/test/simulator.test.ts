/** The simulator against an issuer that is sound: results, output, exit codes. */
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { encipherPin, Pan, Pin } from '../../../src/index.js'
import { GROUPS } from '../src/case.js'
import { program, runIn } from '../src/program.js'
import { CASES, runCase, simulateD1 } from '../src/run.js'
import { World } from '../src/world.js'
import { ISSUER, type Issuer, type IssuerChanges, openIssuer } from './support/issuer.js'
import { keptOutput } from './support/output.js'

const LOSS =
  'warning: the PINs of 2 cards that are set as 3DES_SECCOS alone are replaced, and cannot be set back'

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

  test('passes every case, twice in a row, and nothing shows a secret', async () => {
    const table = keptOutput()
    expect(await program(['--config', issuer.config], table)).toBe(0)
    const rows = table.output.join('\n')
    expect(table.output.at(-1)).toMatch(
      new RegExp(`^${CASES.length + 1} passed, 0 failed, 0 not run, in [\\d.]+ s$`),
    )
    // A line each as it comes, between two of a header and one that sums up.
    expect(table.output).toHaveLength(CASES.length + 3)
    expect(rows.match(/^ok /gm)).toHaveLength(CASES.length + 1)

    const json = keptOutput()
    expect(await program(['--config', issuer.config, '--json'], json)).toBe(0)
    const report = JSON.parse(json.output.join('\n'))
    expect(report.summary).toMatchObject({ passed: CASES.length + 1, failed: 0, notRun: 0 })
    expect(Object.keys(report.cases[0])).toEqual([
      'group',
      'name',
      'expected',
      'verdict',
      'got',
      'milliseconds',
    ])

    for (const { output, errors } of [table, json]) {
      expect(errors).toEqual([LOSS])
      for (const secret of issuer.secrets) expect(output.join('\n')).not.toContain(secret)
    }
  })

  test('--only runs some groups, and single cases', async () => {
    const io = keptOutput()
    const only = ['--only', 'get-pin', '--only', 'change-counter: a card that is absent']
    expect(await program(['--json', '--config', issuer.config, ...only], io)).toBe(0)
    const { cases } = JSON.parse(io.output.join('\n'))
    expect(cases.map(({ group }: { group: string }) => group)).toEqual([
      ...new Array(7).fill('get-pin'),
      'change-counter',
      'end',
    ])
  })

  test('on a terminal how far it is is shown and taken away; SIGINT ends it after the case under way', async () => {
    const written: string[] = []
    const stop: (() => void)[] = []
    const stream = (name: string) => ({
      isTTY: true,
      on: () => undefined,
      write: (text: string) => {
        written.push(`${name} ${text}`)
        if (name === 'out' && text.startsWith('ok ')) stop[0]?.()
      },
    })
    const process = {
      argv: ['node', 'd1-simulator', '--config', issuer.config, '--only', 'get-pin'],
      stdout: stream('out'),
      stderr: stream('err'),
      once: (_: string, listener: () => void) => stop.push(listener),
      exit: () => undefined,
      exitCode: undefined,
    }
    await runIn(process)
    expect(process.exitCode).toBe(1)
    expect(stop).toHaveLength(2)
    expect(written.filter(line => line === 'err \r\x1b[K').length).toBeGreaterThan(0)
    const lines = written.filter(line => line.startsWith('out ok '))
    expect(lines.length).toBeGreaterThan(0)
    expect(lines.length).toBeLessThan(7)
    let shown = false
    for (const line of written) {
      if (line.startsWith('out ')) expect(shown, line).toBe(false)
      else shown = line.startsWith('err [')
    }
  })

  test('members on the command line are played as those of the file', async () => {
    const { url } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const args = ['--only', 'paths: no such card', '--config']
    expect(await program([...args, otherConfig(issuer, { url: 'https://127.0.0.1:9' })], keptOutput())).toBe(
      1,
    )
    expect(await program([...args, join(issuer.folder, 'changed.json'), '--url', url], keptOutput())).toBe(0)
  })

  test('what cannot be run is said with its reason, and is not passed', async () => {
    const cards = [{ cardId: 'iso0-1', pan: '9999990123456789', state: 'active', setPinTypes: ['ISO0'] }]
    // D1 comes in by its certificate alone.
    const open = await openIssuer({
      endpoints: () => ({ authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined }) as never,
    })
    const config = otherConfig(open, {
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
        'there are not two active ISO0 cards of one PAN',
        'the configuration has no seccos',
      ]),
    )
    const io = keptOutput()
    expect(await program(['--config', config, '--only', 'token'], io)).toBe(1)
    expect(await program(['--config', config, '--only', 'token', '--allow-not-run'], io)).toBe(1)
    await open.close()
  })

  test('--allow-not-run lets a partial configuration pass', async () => {
    const config = otherConfig(issuer, { expired: {} })
    const args = ['--config', config, '--only', 'authorization']
    expect(await program(args, keptOutput())).toBe(1)
    const io = keptOutput()
    expect(await program([...args, '--allow-not-run'], io)).toBe(0)
    expect(io.output.join('\n')).toMatch(/not run +authorization +an expired token/)
  })

  test.each([
    ['seccos-1 alone', 'there are not 2 active 3DES_SECCOS cards', { expired: {} }, ['seccos-1']],
    ['no card for ISO0', 'there is no active card for ISO0 alone', {}, ['seccos-1', 'seccos-2']],
    [
      'no card for both',
      'there is no active card for both types',
      { expired: {} },
      ['iso0-1', 'seccos-1'],
      'get-pin',
    ],
  ])('with %s: %s', async (_what, reason, changes, cardIds, group = 'set-pin-seccos') => {
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const kept = cards.filter(({ cardId }: { cardId: string }) => cardIds.includes(cardId))
    const config = otherConfig(issuer, { ...changes, cards: kept })
    const results = await simulateD1({ config, only: [group], warn: () => {} })
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

  test('a profile without a pcc, whose MAC does not cover the PRW: that is asked for nowhere', async () => {
    const profile = JSON.parse(readFileSync(join(issuer.folder, 'profile.json'), 'utf8'))
    const mac = { ...profile.mac, inputs: [{ input: 'dataSet.masked' }] }
    const fields = profile.fields.map(({ id, offset, length, ...form }: { [name: string]: unknown }) =>
      id === 'pcc' ? { id: 'fixed', offset, length, constant: '0000' } : { id, offset, length, ...form },
    )
    writeFileSync(join(issuer.folder, 'bare.json'), JSON.stringify({ ...profile, fields, mac }))
    const { seccos } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const config = otherConfig(issuer, { seccos: { ...seccos, profileFile: 'bare.json' } })
    const only = [
      'set-pin-seccos: another PRW under the MAC',
      'set-pin-seccos: another pcc',
      'uniform: refusals of 3DES_SECCOS are the same bytes',
      'uniform: refusals of 3DES_SECCOS take the same time',
    ]
    const results = await simulateD1({ config, only, warn: () => {} })
    expect(results.map(({ name, verdict }) => [name, verdict]).sort()).toEqual([
      ['another PRW under the MAC', 'not run'],
      ['another pcc', 'not run'],
      ['refusals of 3DES_SECCOS are the same bytes', 'passed'],
      ['refusals of 3DES_SECCOS take the same time', 'passed'],
    ])
  })

  test('another caller without a token, and cards that are UUIDs alone: what needs more is not run', async () => {
    const { other, cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const { tokenFile: _, ...certificate } = other
    const cardId = '0b54a7a0-3f0e-4c57-9d0a-6a1c5a0c3c0e'
    const config = otherConfig(issuer, { other: certificate, expired: {}, cards: [{ ...cards[0], cardId }] })
    const only = ["callers: another issuer's token", 'paths: a cardId in the other letters']
    const results = await simulateD1({ config, only, warn: () => {} })
    expect(results).toMatchObject([
      { verdict: 'not run', got: 'the configuration has no token of another caller' },
      { verdict: 'not run', got: 'there is no active card with a letter that is no UUID' },
    ])
  })

  test('another PIN than the configuration states is a failure', async () => {
    const { cards } = JSON.parse(readFileSync(issuer.config, 'utf8'))
    const config = otherConfig(issuer, { cards: [{ ...cards[0], pin: '0000' }, ...cards.slice(1)] })
    const results = await simulateD1({ config, only: ['get-pin'], warn: () => {} })
    expect(results[0]).toMatchObject({ name: "shows each card's PIN", verdict: 'failed', got: 'another PIN' })
  })

  test('secret files that others may read are warned of on standard error', async () => {
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o644)
    const io = keptOutput()
    await program(['--config', issuer.config, '--only', 'change-counter'], io)
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o600)
    expect(io.errors).toEqual(['warning: zpk.hex can be read by others than its owner: chmod 600'])
  })
})

test('an issuer that learns the PIN from a 3DES_SECCOS Set PIN may show it', async () => {
  const newPin = vi.spyOn(World.prototype, 'newPin')
  const issuer = await openIssuer({
    handler:
      ({ handler, options, pins }) =>
      async (request, connection) => {
        const response = await handler(request, connection)
        const [key] = [options.issuers[ISSUER]?.iso0?.storage ?? []].flat()
        if (request.method !== 'PUT' || key === undefined) return response
        const pin = Pin.from(newPin.mock.results.at(-1)?.value)
        const block = await encipherPin({ pin, pan: Pan.from('9999990123456789'), format: 0, key })
        await pins.storeBlock({ issuerId: ISSUER, cardId: 'both-1' }, { block, kid: key.kid })
        return response
      },
  })
  try {
    const only = ['get-pin: after a Set PIN of type 3DES_SECCOS']
    const [result] = await simulateD1({ config: issuer.config, only, warn: () => {} })
    expect(result).toMatchObject({ verdict: 'passed', got: 'the new PIN' })
  } finally {
    newPin.mockRestore()
    await issuer.close()
  }
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

describe('where D1 is not let in', () => {
  /** What a whole run says of an issuer. */
  const said = async (changes: IssuerChanges, config: object = {}) => {
    const issuer = await openIssuer(changes)
    const io = keptOutput()
    expect(await program(['--config', otherConfig(issuer, config)], io)).toBe(1)
    await issuer.close()
    expect(io.output.at(-1)).toMatch(/^0 passed, 1 failed, 0 not run, /)
    expect(io.errors.at(-1)).toMatch(/^warning: D1 is not let in, so that none of \d{3} cases was tried/)
    return (
      io.output.find(line => /failed +authorization +D1 itself is let in/i.test(line)) ?? io.output.join('\n')
    )
  }
  const refused = (takes: (request: Request) => boolean): IssuerChanges => ({
    handler:
      ({ handler }) =>
      async (request, connection) =>
        takes(request)
          ? new Response('{"error":"Unauthorized"}', {
              status: 401,
              headers: { 'content-type': 'application/json' },
            })
          : handler(request, connection),
  })

  test('because no token endpoint is configured, and the issuer asks for a token', async () => {
    const line = await said({}, { tokenUrl: undefined, client: undefined })
    expect(line).toContain("401 to D1's certificate alone: the configuration has no tokenUrl and no client")
  })

  test('because the token endpoint gives it none', async () => {
    const line = await said(refused(() => true))
    expect(line).toContain('the token endpoint gives D1 no token (401')
  })

  test('because the token that it got is not taken', async () => {
    const line = await said(refused(({ url }) => url.endsWith('/pin')))
    expect(line).toContain('401 with a token that the token endpoint has just issued')
  })

  test('what is about tokens alone is tried all the same', async () => {
    const issuer = await openIssuer(refused(({ url }) => url.endsWith('/pin')))
    const results = await simulateD1({
      config: issuer.config,
      only: ['token'],
      warn: () => expect.unreachable(),
    })
    await issuer.close()
    expect(results.length).toBeGreaterThan(5)
  })
})

test('the cases are in the order of the groups, and each has a name of its own in its group', () => {
  const order = CASES.map(({ group }) => GROUPS.indexOf(group))
  expect(order).toEqual([...order].sort((a, b) => a - b))
  const names = CASES.map(({ group, name }) => `${group}: ${name}`)
  expect(new Set(names).size).toBe(names.length)
})
