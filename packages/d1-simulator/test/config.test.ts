/** What is wrong with a configuration is said by its entry or file, and never by what stands there. */

import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ecKeyPair } from '../../../test/support/key-pair.js'
import { readConfig } from '../src/config-reader.js'
import { MEMBER_OPTIONS, memberHelp, withMembers } from '../src/members.js'
import { loadSetup } from '../src/setup.js'
import { certificates, type Issuer, openIssuer } from './support/issuer.js'

let issuer: Issuer
// biome-ignore lint/suspicious/noExplicitAny: a document to be spoilt
let sound: any
beforeAll(async () => {
  issuer = await openIssuer()
  sound = JSON.parse(readFileSync(issuer.config, 'utf8'))
})
afterAll(() => issuer.close())

const CANARY = '4929123456789012'

describe('entries', () => {
  const card = { cardId: 'c', state: 'active', pan: CANARY, setPinTypes: ['ISO0'] }
  test.each<[string, () => unknown, string | RegExp]>([
    ['a list', () => [], 'the document must be an object'],
    [
      'a member that is unknown',
      () => ({ ...sound, zpkFile: CANARY }),
      'the document has an unknown member "zpkFile"',
    ],
    ['no url', () => ({ ...sound, url: undefined }), 'the configuration lacks /url (--url)'],
    ['http', () => ({ ...sound, url: 'http://localhost' }), '/url must be an https address without query'],
    [
      'a query',
      () => ({ ...sound, url: 'https://localhost/?x' }),
      '/url must be an https address without query',
    ],
    ['an issuerId of 9', () => ({ ...sound, issuerId: 'is_tbank0' }), /^\/issuerId must be 10 characters/],
    [
      'a token endpoint without client',
      () => ({ ...sound, client: undefined }),
      'the configuration lacks /client/id (--client-id), /client/secretFile (--client-secret-file)',
    ],
    [
      'a client without token endpoint',
      () => ({ ...sound, tokenUrl: undefined }),
      'the configuration lacks /tokenUrl (--token-url)',
    ],
    [
      'a client id with a colon',
      () => ({ ...sound, client: { id: 'a:b', secretFile: 'x' } }),
      /^\/client\/id must be/,
    ],
    [
      'no certificate',
      () => ({ ...sound, tls: { key: 'x', ca: 'x' } }),
      'the configuration lacks /tls/cert (--cert)',
    ],
    ['a certificate that is none', () => ({ ...sound, tls: 'x' }), '/tls must be an object'],
    [
      'no part of seccos',
      () => ({ ...sound, expired: undefined, seccos: {} }),
      '/seccos/profileFile is missing',
    ],
    [
      'a key in place of a file',
      () => ({ ...sound, zpk: { kid: 'x', file: 'x', hex: CANARY } }),
      '/zpk has an unknown member "hex"',
    ],
    [
      'a kid of 129 characters',
      () => ({ ...sound, zpk: { kid: 'x'.repeat(129), file: 'x' } }),
      /^\/zpk\/kid must be/,
    ],
    ['no cards', () => ({ ...sound, cards: [] }), '/cards must be a list that is not empty'],
    [
      'a card twice',
      () => ({ ...sound, expired: undefined, cards: [card, card] }),
      /must name each cardId once/,
    ],
    [
      'a card without PAN',
      () => ({ ...sound, cards: [{ cardId: 'c', state: 'active' }] }),
      /^\/cards\/0 must have pan/,
    ],
    [
      'a PAN of 11 digits',
      () => ({ ...sound, cards: [{ ...card, pan: '12345678901' }] }),
      /^\/cards\/0\/pan must be 12/,
    ],
    [
      'a PIN of 3 digits',
      () => ({ ...sound, cards: [{ ...card, pin: '123' }] }),
      /^\/cards\/0\/pin must be 4 to 12/,
    ],
    [
      'another state',
      () => ({ ...sound, cards: [{ ...card, state: 'x' }] }),
      /^\/cards\/0\/state must be active or/,
    ],
    [
      'another type',
      () => ({ ...sound, cards: [{ ...card, setPinTypes: ['ISO1'] }] }),
      /setPinTypes\/0 must be ISO0 or/,
    ],
    [
      'fields that are a list',
      () => ({ ...sound, cards: [{ ...card, fields: ['x'] }] }),
      /fields must be an object/,
    ],
    [
      'fields that are null',
      () => ({ ...sound, cards: [{ ...card, fields: null }] }),
      /fields must be an object/,
    ],
    [
      'a field that is a number',
      () => ({ ...sound, cards: [{ ...card, fields: { psn: 1 } }] }),
      /fields\/psn must be text/,
    ],
    [
      'a timeout that is text',
      () => ({ ...sound, timeouts: { requestMs: '1' } }),
      /requestMs must be a whole number/,
    ],
    [
      'a timeout of 0',
      () => ({ ...sound, timeouts: { slowBodyMs: 0 } }),
      /slowBodyMs must be a whole number/,
    ],
    [
      'an expired counter of no card',
      () => ({ ...sound, expired: { counter: { cardId: 'x', pcc: '0001', intdatag: 'x'.repeat(20) } } }),
      /must be an active 3DES_SECCOS card/,
    ],
    [
      'an expired counter of a card for ISO0',
      () => ({ ...sound, expired: { counter: { cardId: 'iso0-1', pcc: '0001', intdatag: 'x'.repeat(20) } } }),
      /must be an active 3DES_SECCOS card/,
    ],
    ['an expired counter without seccos', () => ({ ...sound, seccos: undefined }), /and \/seccos be there/],
    [
      'an intdatag of 19',
      () => ({
        ...sound,
        expired: { counter: { cardId: 'seccos-1', pcc: '0001', intdatag: 'x'.repeat(19) } },
      }),
      /intdatag must be 20 printable/,
    ],
  ])('%s', (_what, make, message) => {
    const document: unknown = JSON.parse(JSON.stringify(make()))
    const expected = typeof message === 'string' ? message : expect.stringMatching(message)
    let caught: unknown
    try {
      readConfig(document)
    } catch (error) {
      caught = error
    }
    expect(caught).toMatchObject({ code: 'ERR_CONFIG', message: expected })
    expect(String(caught)).not.toContain(CANARY)
  })

  test('slashes at the end of the url are left out', () => {
    expect(readConfig({ ...sound, url: 'https://localhost:1/d1/' }).url).toBe('https://localhost:1/d1')
  })

  test('a minimal configuration: no tokens, no SECCOS, no timeouts', () => {
    const { tokenUrl: _t, client: _c, seccos: _s, expired: _e, timeouts: _m, ...minimal } = sound
    expect(readConfig(minimal)).not.toHaveProperty('seccos')
  })
})

describe('files', () => {
  const load = (changes: object, warn: (text: string) => void = () => {}) => {
    const path = join(issuer.folder, 'other.json')
    writeFileSync(path, JSON.stringify({ ...sound, ...changes }))
    chmodSync(path, 0o600)
    return loadSetup({ config: path }, warn)
  }
  const file = (name: string, content: string): string => {
    writeFileSync(join(issuer.folder, name), content)
    chmodSync(join(issuer.folder, name), 0o600)
    return name
  }
  const jwk = (curve: string, more: object): string => {
    const { privateKey } = ecKeyPair(curve)
    return JSON.stringify({ ...privateKey.export({ format: 'jwk' }), ...more })
  }

  test.each<[string, () => object, string]>([
    ['is not there', () => ({ d1JwkFile: 'nowhere' }), 'nowhere cannot be read: ENOENT'],
    [
      'is no certificate',
      () => ({ tls: { ...sound.tls, cert: file('x', CANARY) } }),
      'x is not a PEM certificate',
    ],
    ['is no CA', () => ({ tls: { ...sound.tls, ca: file('x', CANARY) } }), 'x is not a PEM certificate'],
    [
      'is no private key',
      () => ({ tls: { ...sound.tls, key: file('x', CANARY) } }),
      'x is not a PEM private key',
    ],
    [
      'is the key of another certificate',
      () => ({ tls: { ...sound.tls, key: file('x', certificates.stranger.key) } }),
      'x is not the key of d1.pem',
    ],
    ['is no JSON', () => ({ issuerJwkFile: file('x', CANARY.slice(1).concat('x')) }), 'x is not JSON'],
    ['is null', () => ({ issuerJwkFile: file('x', 'null') }), 'x is not a public P-256 JWK with a kid'],
    [
      'is a JWK without kid',
      () => ({ d1JwkFile: file('x', jwk('P-256', {})) }),
      'x is not a private P-256 JWK with a kid',
    ],
    [
      'is a private JWK',
      () => ({ issuerJwkFile: file('x', jwk('P-256', { kid: 'x' })) }),
      'x is not a public P-256 JWK with a kid',
    ],
    [
      'is a public JWK',
      () => ({ d1JwkFile: 'issuer.jwk' }),
      'issuer.jwk is not a private P-256 JWK with a kid',
    ],
    [
      'is of another curve',
      () => ({ d1JwkFile: file('x', jwk('P-384', { kid: 'x' })) }),
      'x is not a private P-256 JWK with a kid',
    ],
    [
      'is no point',
      () => ({ d1JwkFile: file('x', jwk('P-256', { kid: 'x', x: 'AA' })) }),
      'x is not a private P-256 JWK with a kid',
    ],
    [
      'is no hex',
      () => ({ zpk: { kid: 'x', file: file('x', 'x'.repeat(32)) } }),
      'x is not a key of 16 or 24 bytes in hex',
    ],
    [
      'has more behind the key',
      () => ({ zpk: { kid: 'x', file: file('x', `${'A5'.repeat(8)}${'5A'.repeat(8)} mine`) } }),
      'x is not a key of 16 or 24 bytes in hex',
    ],
    [
      'has half a byte more',
      () => ({ zpk: { kid: 'x', file: file('x', `${'A5'.repeat(8)}${'5A'.repeat(8)}7`) } }),
      'x is not a key of 16 or 24 bytes in hex',
    ],
    [
      'is a short key',
      () => ({ zpk: { kid: 'x', file: file('x', CANARY) } }),
      'x is not a key of 16 or 24 bytes in hex',
    ],
    [
      'is a short MAC key',
      () => ({ seccos: { ...sound.seccos, mac: { kid: 'x', file: file('x', CANARY) } } }),
      'x is not a key of 16 or 24 or 32 bytes in hex',
    ],
    ['is no profile', () => ({ seccos: { ...sound.seccos, profileFile: file('x', 'x') } }), 'x is not JSON'],
  ])('one that %s', (_what, changes, message) => {
    expect(() => load(changes())).toThrow(expect.objectContaining({ code: 'ERR_CONFIG', message }))
  })

  test('white space around secrets is left out', () => {
    const setup = load({ zpk: { kid: 'x', file: file('x', `\n${'0123456789abcdef'.repeat(2)}\r\n`) } })
    expect(setup.zpk.key).toHaveLength(16)
    expect(setup.client?.secret).not.toMatch(/\s/)
  })

  test('secrets that others may read are warned of, and nothing else is', () => {
    const warnings: string[] = []
    load({}, text => warnings.push(text))
    expect(warnings).toEqual([])
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o644)
    chmodSync(join(issuer.folder, 'ca.pem'), 0o644)
    load({}, text => warnings.push(text))
    expect(warnings).toEqual(['zpk.hex can be read by others than its owner: chmod 600'])
    chmodSync(join(issuer.folder, 'zpk.hex'), 0o600)
  })

  test('a configuration that is not there, or is none', () => {
    expect(() => loadSetup({ config: join(issuer.folder, 'nowhere.json') }, () => {})).toThrow(
      /cannot be read: ENOENT/,
    )
    const config = join(issuer.folder, file('none.json', `{"x":${CANARY}`))
    expect(() => loadSetup({ config }, () => {})).toThrow(/^the configuration is not JSON$/)
  })

  test.each([
    ['a folder', () => '.'],
    ['a device', () => '/dev/zero'],
    [
      'a pipe',
      () => {
        execFileSync('mkfifo', [join(issuer.folder, 'pipe')])
        return 'pipe'
      },
    ],
  ])('%s in place of a key is refused at once', (_what, make) => {
    const path = make()
    expect(() => load({ zpk: { kid: 'x', file: path } })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: `${path} is not a regular file` }),
    )
  })

  test('a key of more than 1 MiB is refused unread', () => {
    const path = file('long.hex', '0'.repeat(1_048_577))
    expect(() => load({ zpk: { kid: 'x', file: path } })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: `${path} is longer than 1048576 bytes` }),
    )
  })

  test('without timeouts there are defaults', () => {
    expect(load({ timeouts: undefined }).timeouts).toEqual({ requestMs: 10_000, slowBodyMs: 15_000 })
  })
})

describe('members on the command line', () => {
  const members = () => ({
    url: sound.url,
    'token-url': sound.tokenUrl,
    'issuer-id': sound.issuerId,
    'client-id': sound.client.id,
    'client-secret-file': path('secret.txt'),
    cert: path('d1.pem'),
    key: path('d1.key'),
    ca: path('ca.pem'),
    'issuer-jwk': path('issuer.jwk'),
    'd1-jwk': path('d1.jwk'),
    'zpk-kid': sound.zpk.kid,
    'zpk-file': path('zpk.hex'),
    profile: path('profile.json'),
    'mac-kid': sound.seccos.mac.kid,
    'mac-file': path('mac.hex'),
    'prw-kid': sound.seccos.prw.kid,
    'prw-file': path('prw.hex'),
    'other-cert': path('other.pem'),
    'other-key': path('other.key'),
    'other-token-file': path('other.txt'),
    'expired-token-file': path('expired.txt'),
    'expired-counter': made('counter.json', sound.expired.counter),
    cards: made('cards.json', sound.cards),
    'request-ms': `${sound.timeouts.requestMs}`,
    'slow-body-ms': `${sound.timeouts.slowBodyMs}`,
  })
  /** As somebody in the tests' working directory would write it. */
  const path = (name: string): string => relative('', join(issuer.folder, name))
  const made = (name: string, content: object): string => {
    writeFileSync(join(issuer.folder, name), JSON.stringify(content))
    chmodSync(join(issuer.folder, name), 0o600)
    return path(name)
  }
  const refuse = (text: string): never => {
    throw new Error(text)
  }

  test('all of them are as good as the file', () => {
    expect(Object.keys(members())).toEqual(Object.keys(MEMBER_OPTIONS))
    expect(loadSetup({ members: members() }, refuse)).toEqual(loadSetup({ config: issuer.config }, refuse))
  })

  test.each(Object.keys(MEMBER_OPTIONS))('--%s takes the place of the member in the file', option => {
    const spoilt = join(issuer.folder, 'spoilt.json')
    const { member } = MEMBER_OPTIONS[option] ?? { member: [] }
    const copy = structuredClone(sound)
    const parent = member.slice(0, -1).reduce((target, name) => target[name], copy)
    parent[member.at(-1) ?? ''] = 'nowhere\n'
    writeFileSync(spoilt, JSON.stringify(copy))
    chmodSync(spoilt, 0o600)
    expect(() => loadSetup({ config: spoilt }, refuse)).toThrow(`/${member.join('/')} must be`)
    const one = Object.entries(members()).filter(([name]) => name === option)
    const setup = loadSetup({ config: spoilt, members: Object.fromEntries(one) }, refuse)
    expect(setup).toEqual(loadSetup({ config: issuer.config }, refuse))
  })

  test.each<[string, readonly string[], string]>([
    ['cards', ['cards'], '/cards (--cards)'],
    ['a key and its name', ['zpk-kid', 'zpk-file'], '/zpk/kid (--zpk-kid), /zpk/file (--zpk-file)'],
    ['half of the tokens', ['client-id'], '/client/id (--client-id)'],
    ['half of SECCOS', ['prw-file'], '/seccos/prw/file (--prw-file)'],
  ])('without %s, what is missing is named by member and option', (_what, without, names) => {
    const given = Object.entries(members()).filter(([name]) => !without.includes(name))
    expect(() => loadSetup({ members: Object.fromEntries(given) }, refuse)).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: `the configuration lacks ${names}` }),
    )
  })

  test('tokens, SECCOS, timeouts and what has expired need not be there', () => {
    const optional = /^(token|client|profile|mac|prw|expired|request|slow)/
    const given = Object.entries(members()).filter(([name]) => !optional.test(name))
    const setup = loadSetup({ members: Object.fromEntries(given) }, refuse)
    expect(setup).toMatchObject({ tokenUrl: undefined, seccos: undefined, expired: {} })
  })

  test.each([
    [
      'a number that is none',
      'request-ms',
      () => 'soon',
      '/timeouts/requestMs must be a whole number from 1',
    ],
    ['http', 'url', () => 'http://localhost', '/url must be an https address without query'],
    ['cards that are no list', 'cards', () => made('x', {}), '/cards must be a list that is not empty'],
    ['cards that are no JSON', 'cards', () => path('zpk.hex'), 'zpk.hex is not JSON'],
    ['a file that is not there', 'key', () => 'nowhere', 'nowhere cannot be read: ENOENT'],
  ])('%s is refused', (_what, option, make, message) => {
    expect(() => loadSetup({ members: { ...members(), [option]: make() } }, refuse)).toThrow(message)
  })

  test('a part of the file that is no object stays what it is, and is named', () => {
    const config = join(issuer.folder, 'spoilt.json')
    writeFileSync(config, JSON.stringify({ ...sound, tls: 'x' }))
    expect(() => loadSetup({ config, members: members() }, () => {})).toThrow('/tls must be an object')
  })

  test('a list of cards that others may read is warned of', () => {
    const warnings: string[] = []
    const given = members()
    chmodSync(join(issuer.folder, 'cards.json'), 0o644)
    loadSetup({ members: given }, text => warnings.push(text))
    expect(warnings).toEqual([
      `${join(issuer.folder, 'cards.json')} can be read by others than its owner: chmod 600`,
    ])
  })

  test('--help has a line for each', () => {
    for (const [option, { member }] of Object.entries(MEMBER_OPTIONS)) {
      expect(memberHelp()).toMatch(
        new RegExp(`^  --${option} (TEXT|FILE|NUMBER) +${member.join('[.]')} +`, 'm'),
      )
    }
  })
})

describe('the guide', () => {
  const guide = readFileSync(new URL('../../../docs/guides/simulator.md', import.meta.url), 'utf8')
  const blocksOf = (kind: string): readonly string[] =>
    Array.from(
      guide.matchAll(new RegExp(`\\n\`\`\`${kind}\\n([^\`]*)\`\`\``, 'g')),
      ([, block = '']) => block,
    )
  const lines = blocksOf('sh').flatMap(block =>
    block
      .replaceAll(/ \\\n */g, ' ')
      .trim()
      .split('\n'),
  )
  /** The options of a line by their names, with what is given to each. */
  const optionsOf = (line: string): Readonly<Record<string, string>> =>
    Object.fromEntries(
      Array.from(line.matchAll(/ --([\w-]+) (\S+)/g), ([, name = '', text = '']) => [name, text]),
    )

  test('shows a configuration that is read as it stands, but for the files that it names', () => {
    const [shown = ''] = blocksOf('json')
    const document = JSON.parse(shown)
    expect(readConfig(document)).toEqual(document)
  })

  test('shows command lines whose options are there, and are enough', () => {
    const calls = lines.filter(line => line.includes('d1-simulator ')).map(optionsOf)
    expect(calls).toHaveLength(3)
    for (const call of calls) {
      const unknown = Object.keys(call).filter(
        name => name !== 'config' && !Object.hasOwn(MEMBER_OPTIONS, name),
      )
      expect(unknown).toEqual([])
    }
    const { config, ...alone } = calls.at(-1) ?? {}
    expect(config).toBeUndefined()
    expect(readConfig(withMembers(undefined, alone, () => sound.cards))).toMatchObject({ url: alone['url'] })
  })
})
