/**
 * What `doctor` reports, field by field: how long which operation took, what each answer of the contract counts as, what each ability
 * of a token means, which keys of a group differ; with which options it opens a token, and that it closes what it opened.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type {
  Mechanism,
  ObjectHandle,
  SessionHandle,
  Template,
} from '../../src/backend/pkcs11/binding/binding.js'
import { CKK, CKM } from '../../src/backend/pkcs11/binding/constants.js'
import { doctorCommand } from '../../src/cli/doctor.js'
import { main } from '../../src/cli/main.js'
import type { Opening } from '../../src/cli/open.js'
import {
  type Backend,
  BackendError,
  type Capabilities,
  type Health,
  IssuerPinError,
} from '../../src/index.js'
import type { KeyStore, KeyStoreOptions, ListedKey, Pkcs11Options } from '../../src/pkcs11.js'
import { CONTRACT_KEYS, type ContractHarness } from '../../src/testing.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { keptIo } from './support/io.js'
import { file, fresh, run, TOKEN } from './support/program.js'

/** The contract here: a few cases that come out as they are told. The real one runs in other files. */
interface Case {
  readonly name: string
  /** Is given the backend that the cases share, and a way to open one that holds other keys. */
  readonly run: (shared: () => Promise<Backend>, own: () => Promise<Backend>) => Promise<unknown>
}
const contract = vi.hoisted(() => ({ cases: [] as Case[] }))
vi.mock('../../src/testing.js', async original => {
  const real = await original<typeof import('../../src/testing.js')>()
  const backendContract = ({ open }: ContractHarness) => {
    let backend: Promise<Backend> | undefined
    const shared = () => {
      backend ??= open(real.CONTRACT_KEYS)
      return backend
    }
    return {
      cases: contract.cases.map(({ name, run }) => ({
        name,
        run: async () => void (await run(shared, () => open([...real.CONTRACT_KEYS]))),
      })),
      close: async () => (await backend)?.close(),
    }
  }
  return { ...real, backendContract }
})

const holds = (name: string): Case => ({ name, run: shared => shared() })
const fails = (name: string, error: unknown): Case => ({ name, run: () => Promise.reject(error) })
beforeEach(() => {
  contract.cases = [holds('one that holds')]
})
afterEach(() => {
  vi.restoreAllMocks()
})

const POOR: Capabilities = {
  backend: 'pkcs11',
  tdea: 'none',
  macs: { 'iso9797-1-alg1': 'none', 'iso9797-1-alg3': 'none', cmac: 'none', 'hmac-sha256': 'none' },
  keyAgreement: 'none',
  signing: 'none',
  reencipher: 'host',
  derivation: 'none',
  random: 'none',
  notes: [],
}
const RICH: Capabilities = {
  ...POOR,
  tdea: 'the token',
  macs: { 'iso9797-1-alg1': 'composed', 'iso9797-1-alg3': 'native', cmac: 'native', 'hmac-sha256': 'native' },
  keyAgreement: 'token-kdf',
  signing: 'native',
  reencipher: 'inside',
  random: 'the token',
  notes: ['a first note', 'another | in two parts'],
}
const LISTED: ListedKey = {
  kid: 'X',
  id: '',
  usage: 'cmac',
  mode: 'C',
  algorithm: 'aes-128',
  checkValue: { method: 'cmac', value: '0A1B2C3D4E' },
  problem: undefined,
  origin: 'generated',
}

/** A token of which all is known: what it was opened with, what is open, what is in it. */
class Told {
  readonly opened: [what: string, options: Pkcs11Options | KeyStoreOptions][] = []
  open = 0
  capabilities: Capabilities = RICH
  health: Health = { ok: true, detail: 'it answers' }
  /** The test keys that are in it, and those that it does not take. */
  readonly made = new Set<string>()
  refuses: readonly string[] = []
  readonly deleted: string[] = []
  readonly #keys: readonly ListedKey[]

  constructor(keys: readonly ListedKey[] = []) {
    this.#keys = keys
  }

  #opened(what: string, options: Pkcs11Options | KeyStoreOptions) {
    this.opened.push([what, options])
    this.open++
    const close = async (): Promise<void> => {
      await nextTurn()
      this.open--
    }
    return { close, [Symbol.asyncDispose]: close }
  }

  async backend(options: Pkcs11Options): Promise<Backend> {
    return {
      ...this.#opened('backend', options),
      capabilities: () => this.capabilities,
      health: async () => this.health,
      bind: () => Promise.reject(new IssuerPinError('ERR_UNSUPPORTED_BY_TOKEN', 'no')),
      randomBytes: async (length: number) => new Uint8Array(length),
    } as unknown as Backend
  }

  async store(options: KeyStoreOptions): Promise<KeyStore> {
    return {
      ...this.#opened('store', options),
      importKey: async ({ kid }: { kid: string }) => {
        const refused = this.refuses.find(one => kid.endsWith(`-${one}`))
        if (refused !== undefined) throw new BackendError('ERR_BACKEND_FAILED', `${kid} is refused`)
        this.made.add(kid)
      },
      listKeys: async () => [...this.#keys, ...Array.from(this.made, kid => ({ ...LISTED, kid, id: 'AB' }))],
      deleteKey: async ({ kid }: { kid: string }) => {
        this.made.delete(kid)
        this.deleted.push(kid)
      },
    } as unknown as KeyStore
  }
}

/** `doctor` on such a token, or on several that are told apart by their library. */
async function examined(
  token: Told | Readonly<Record<string, Told>>,
  args: readonly string[],
  more: Parameters<typeof keptIo>[0] = {},
) {
  const tokens = token instanceof Told ? { '/x.so': token } : token
  const at = ({ module }: { readonly module: string }) => tokens[module] ?? expect.unreachable(module)
  const opening: Opening = {
    backend: options => at(options).backend(options),
    store: options => at(options).store(options),
    group: () => expect.unreachable('a group is tried token by token'),
  }
  const io = keptIo({ env: { TP: '1234' }, ...more })
  const code = await main(['doctor', '--pin-env', 'TP', ...args], io, [doctorCommand(opening)])
  for (const one of Object.values(tokens)) expect([args, one.open]).toEqual([args, 0])
  return { code, out: io.output.join('\n'), err: io.errors.join('\n') }
}
const ONE = ['--module', '/x.so', '--token', 'issuer']

async function reported(token: Told, ...args: readonly string[]) {
  const { code, out } = await examined(token, [...ONE, '--json', ...args])
  return { code, ...(JSON.parse(out) as Report) }
}
interface Report {
  readonly operations: readonly { readonly operation: string; readonly ms?: number }[]
  readonly contract: object
}

describe('how long an operation takes', () => {
  /** Milliseconds of a call, by mechanism: each another time, so that none is taken for another. */
  const TIMES: Readonly<Record<number, number>> = {
    [CKM.DES3_ECB]: 1000,
    [CKM.DES3_CBC]: 200,
    [CKM.DES3_CMAC]: 50,
    [CKM.AES_CMAC]: 6,
    [CKM.SHA256_HMAC]: 7,
    [CKM.ECDH1_DERIVE]: 80,
    [CKM.ECDSA]: 9,
  }
  let now = 0

  class Timed extends FakeToken {
    #randoms = 0

    #take({ mechanism }: Mechanism): void {
      now += TIMES[mechanism] ?? 0
    }

    override C_EncryptInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
      this.#take(mechanism)
      super.C_EncryptInit(session, mechanism, key)
    }

    override C_SignInit(session: SessionHandle, mechanism: Mechanism, key: ObjectHandle): void {
      this.#take(mechanism)
      super.C_SignInit(session, mechanism, key)
    }

    override C_DeriveKey(
      session: SessionHandle,
      mechanism: Mechanism,
      key: ObjectHandle,
      template: Template,
    ): ObjectHandle {
      this.#take(mechanism)
      return super.C_DeriveKey(session, mechanism, key, template)
    }

    /** Of any 15 calls that follow each other, each takes another time: from 100 to 114 ms, and one of them 60 times as long. */
    override C_GenerateRandom(session: SessionHandle, length: number): Uint8Array<ArrayBuffer> {
      const rank = (this.#randoms++ * 7) % 15
      now += rank === 14 ? 6000 : 100 + rank
      return super.C_GenerateRandom(session, length)
    }
  }

  test('is the median of its own calls, in milliseconds', async () => {
    vi.spyOn(performance, 'now').mockImplementation(() => now)
    const args = ['doctor', ...TOKEN, '--composed-mac', '--extract-shared-secret', '--json']
    const { code, out } = await run(args, {}, new Timed())
    expect(code).toBe(0)
    const { operations } = JSON.parse(out) as Report
    expect(Object.fromEntries(operations.map(({ operation, ms }) => [operation, ms]))).toMatchInlineSnapshot(`
      {
        "MAC cmac": 6,
        "MAC hmac-sha256": 7,
        "MAC iso9797-1-alg1": 200,
        "MAC iso9797-1-alg3": 400,
        "TDEA PIN block": 1000,
        "key agreement": 80,
        "random": 107,
        "re-encipherment": undefined,
        "signing ES256": 9,
      }
    `)
  })

  test('is not known of what the token cannot do; a fault of the program is not passed over as that', async () => {
    const { operations } = await reported(new Told())
    expect(operations.filter(({ ms }) => ms !== undefined).map(({ operation }) => operation)).toEqual([
      'random',
    ])
    class Broken extends Told {
      override async backend(options: Pkcs11Options): Promise<Backend> {
        const backend = await super.backend(options)
        return { ...backend, randomBytes: () => Promise.reject(new RangeError('not ours')) }
      }
    }
    expect(await examined(new Broken(), ONE)).toMatchObject({ code: 1, err: 'ERR_UNEXPECTED: RangeError' })
  })
})

describe('a token is opened', () => {
  const labels = (prefix: string) =>
    Object.fromEntries(CONTRACT_KEYS.map(({ kid }) => [kid, { label: `${prefix}${kid}` }]))
  const patient = { sessions: { waitMs: 120_000 }, timeouts: { callMs: 120_000, openMs: 120_000 } }

  test.each([
    ['with no bound of its own', {}, patient],
    [
      'with bounds',
      { sessions: { max: 3, waitMs: 5 }, timeouts: { callMs: 7, closeMs: 9 } },
      { sessions: { max: 3, waitMs: 5 }, timeouts: { callMs: 7, closeMs: 9, openMs: 120_000 } },
    ],
    [
      'with other bounds',
      { sessions: { queue: 3 }, timeouts: { openMs: 7 } },
      { sessions: { queue: 3, waitMs: 120_000 }, timeouts: { openMs: 7, callMs: 120_000 } },
    ],
  ])('%s: as it is told; for the test keys without haste, and by their names', async (_, given, waits) => {
    const token = new Told()
    const said = { ...given, keys: { MINE: { label: 'a' } } }
    expect(await examined(token, [...ONE, '--options', file(said)])).toMatchObject({ code: 0 })
    const own = { module: '/x.so', token: 'issuer', ...said }
    const shown = token.opened.map(([what, { pin, ...options }]) => [what, pin?.(), options])
    const [, , tried] = shown
    const [, , { keys }] = tried as [string, string, Pkcs11Options]
    const [prefix = ''] = /^doctor-[0-9a-f]{6}-/.exec(String(Object(keys?.['PEK-2']).label)) ?? []
    const asked = { ...own, ...waits, keys: labels(prefix) }
    expect(shown).toEqual([
      ['backend', '1234', own],
      ['store', '1234', { ...own, importClearKeys: true }],
      ['backend', '1234', asked],
      ['backend', '1234', asked],
    ])
  })

  test('with names for the test keys that no other run has, and no key but those is deleted', async () => {
    const others = ['MINE', 'doctor-000000-PEK-2'].map(kid => ({ ...LISTED, kid }))
    const [one, other] = [new Told(others), new Told(others)]
    for (const token of [one, other]) {
      await examined(token, ONE)
      const own = Object.values(token.opened.at(-1)?.[1].keys ?? {}).map(location =>
        String(Object(location).label),
      )
      expect(token.deleted.sort()).toEqual(own.sort())
    }
    const [first, second] = [one, other].map(({ opened }) => opened.at(-1)?.[1].keys)
    expect(first).not.toEqual(second)
  })

  test('and nothing is put into it, or may be, where that was said', async () => {
    const token = new Told()
    const { contract: found } = await reported(token, '--no-test-keys')
    expect(token.opened.map(([what, options]) => [what, Reflect.get(options, 'importClearKeys')])).toEqual([
      ['backend', undefined],
      ['store', false],
    ])
    expect(found).toEqual({
      passed: 0,
      refused: [],
      impossible: [],
      failed: [],
      notTried: 'no test keys: --no-test-keys',
    })
  })

  test.each(['health', 'listKeys', 'bind'])('and closed, also where %s fails', async name => {
    const gone = () => Promise.reject(new BackendError('ERR_BACKEND_BUSY', 'the token has gone'))
    class Failing extends Told {
      override async backend(options: Pkcs11Options): Promise<Backend> {
        return { ...(await super.backend(options)), ...(name !== 'listKeys' && { [name]: gone }) }
      }
      override async store(options: KeyStoreOptions): Promise<KeyStore> {
        return { ...(await super.store(options)), ...(name === 'listKeys' && { listKeys: gone }) }
      }
    }
    const token = new Failing()
    const { err } = await examined(token, ONE)
    // What cannot be timed is in the table already.
    expect(err).toBe(name === 'bind' ? '' : 'ERR_BACKEND_BUSY: the token has gone')
  })
})

describe('what the contract says', () => {
  const coded = (code: ConstructorParameters<typeof IssuerPinError>[0]) =>
    new IssuerPinError(code, `by ${code}`)

  test('is counted by what it means: a fault, something that the token does not offer, or nothing', async () => {
    const token = new Told()
    token.refuses = ['PEK-A192', 'CMAC-T']
    contract.cases = [
      holds('one that holds'),
      fails('not found', coded('ERR_KEY_NOT_FOUND')),
      fails('not offered', coded('ERR_UNSUPPORTED_BY_TOKEN')),
      fails('not here', coded('ERR_UNSUPPORTED')),
      fails('another key', coded('ERR_KEY_USAGE')),
      fails('wrong answer', new Error('08D7B4')),
      { name: 'keys of its own', run: (_, own) => own() },
      { name: 'keys of its own, and no error', run: (_, own) => own().catch(() => {}) },
      fails('CMAC-T is asked, which is not there', new Error()),
      fails('names it in its error', new Error('of PEK-A192')),
      holds('another that holds'),
      fails('a last wrong answer', coded('ERR_BACKEND_FAILED')),
      holds('a third that holds'),
    ]
    const { code, contract: found } = await reported(token)
    expect([code, found]).toEqual([
      1,
      {
        passed: 3,
        refused: [
          'PEK-A192 (pin-encryption, aes-192): ERR_BACKEND_FAILED: PEK-A192 is refused',
          'CMAC-T (cmac, tdea-2key): ERR_BACKEND_FAILED: CMAC-T is refused',
        ],
        impossible: [
          'not found',
          'not offered',
          'not here',
          'CMAC-T is asked, which is not there',
          'names it in its error',
        ],
        failed: [
          'another key: ERR_KEY_USAGE: by ERR_KEY_USAGE',
          'wrong answer: Error',
          'a last wrong answer: ERR_BACKEND_FAILED: by ERR_BACKEND_FAILED',
        ],
      },
    ])
    expect(token.made.size).toBe(0)
  })

  test('is nothing where the token takes no test key, which is no fault of it', async () => {
    const token = new Told()
    token.refuses = CONTRACT_KEYS.map(({ kid }) => kid)
    const { code, contract: found } = await reported(token)
    const notTried =
      'the token takes no clear test key: PEK-2 (pin-encryption, tdea-2key): ERR_BACKEND_FAILED: PEK-2 is refused'
    expect([code, found]).toEqual([0, { passed: 0, refused: [], impossible: [], failed: [], notTried }])
    expect(token.opened.map(([what]) => what)).toEqual(['backend', 'store'])
  })

  test('a token that takes all but one kind of key is tried with the others', async () => {
    const fake = new FakeToken({ without: [-CKK.EC] })
    const { code, out } = await run(['doctor', ...TOKEN, '--composed-mac', '--json'], {}, fake)
    const { contract: found } = JSON.parse(out) as Report
    expect(code).toBe(0)
    expect(found).toMatchObject({
      passed: 1,
      refused: ['JWE-D1', 'JWE-BOB', 'SIGN-1'].map(kid => expect.stringMatching(`^${kid} `)),
    })
  })

  test('that a test key could not be deleted again is an error, were all else well', async () => {
    const stuck = async ({ kid }: { kid: string }) => {
      if (kid.endsWith('-HMAC')) throw new BackendError('ERR_BACKEND_FAILED', 'it stays')
    }
    class Stuck extends Told {
      override async store(options: KeyStoreOptions): Promise<KeyStore> {
        return { ...(await super.store(options)), deleteKey: stuck as KeyStore['deleteKey'] }
      }
    }
    expect(await examined(new Stuck(), ONE)).toEqual({
      code: 1,
      out: '',
      err: 'ERR_BACKEND_FAILED: it stays',
    })
  })

  test('how far it is, is told where there is a terminal', async () => {
    contract.cases = [holds('one'), fails('two', new Error()), holds('three')]
    const { err } = await examined(new Told(), ONE, { terminal: true })
    expect(err.split('\n')).toEqual([
      'opening',
      'keys',
      'contract: 1 of 3',
      'contract: 2 of 3',
      'contract: 3 of 3',
      'times',
    ])
  })
})

describe('what it says of a token', () => {
  const at = Date.parse('2026-03-04T05:06:07.089Z')
  async function told(token: Told) {
    let now = 10_000
    vi.spyOn(performance, 'now').mockImplementation(() => now)
    vi.spyOn(Date, 'now').mockReturnValue(at)
    vi.spyOn(process, 'cpuUsage').mockImplementation(before =>
      before === undefined ? { user: 1e9, system: 1e9 } : { user: 2_340_000, system: 5e6 },
    )
    const { store } = token
    token.store = options => {
      now += 7260
      return store.call(token, options)
    }
    const [report, json] = [fresh(), fresh()]
    const { code, out } = await examined(token, [...ONE, '--report', report, '--report-json', json])
    return { code, out, report: readFileSync(report, 'utf8'), json: JSON.parse(readFileSync(json, 'utf8')) }
  }

  test('that can do all: on the screen, on paper and as JSON', async () => {
    const token = new Told([
      LISTED,
      {
        ...LISTED,
        kid: 'Y',
        usage: undefined,
        algorithm: undefined,
        checkValue: undefined,
        problem: 'ERR_KEY_USAGE: a | b\nand c',
        origin: 'unknown',
      },
      { ...LISTED, kid: 'Z', usage: 'hmac', algorithm: 'hmac-sha256', origin: 'brought-in' },
    ])
    token.refuses = ['CMAC-T']
    contract.cases = [
      ...['one', 'two', 'three', 'four'].map(holds),
      fails('a wrong answer', new Error()),
      fails('another', new Error()),
      ...['a', 'b', 'c'].map(name => fails(name, new IssuerPinError('ERR_UNSUPPORTED', 'no'))),
    ]
    const { code, out, report, json } = await told(token)
    expect(code).toBe(1)
    expect(out.split('\n')).toMatchInlineSnapshot(`
      [
        "operation           done      ms    what it means for D1",
        "---------           ----      --    --------------------",
        "TDEA PIN block      native    -     Get PIN and Set PIN can be answered",
        "re-encipherment     native    -     PIN blocks move between keys inside the token",
        "key agreement       native    -     Set PIN: JWEs open with the key in the token",
        "MAC iso9797-1-alg1  composed  -     PRW and MAC of this kind (SECCOS): out of CBC calls, see composedMac",
        "MAC iso9797-1-alg3  native    -     PRW and MAC of this kind (SECCOS)",
        "MAC cmac            native    -     PRW and MAC of this kind (SECCOS)",
        "MAC hmac-sha256     native    -     PRW and MAC of this kind (SECCOS)",
        "signing ES256       native    -     tokens for D1 (client assertion)",
        "random              native    0.00  PINs, fillers, nonces",
        "FAILED a wrong answer: Error",
        "FAILED another: Error",
        "key Y: ERR_KEY_USAGE: a | b",
        "and c",
        "the token is well; 4 contract cases hold, 2 do not; 3 keys, 1 of them cannot be bound as they are.",
      ]
    `)
    expect(report.split('\n')).toMatchInlineSnapshot(`
      [
        "# Token report",
        "",
        "Made 2026-03-04T05:06:07.089Z by \`issuer-pin-crypto doctor\` in 7.3 s, 2.3 s of them processor time of this process, the library included. Module \`/x.so\`, token \`issuer\`.",
        "",
        "the token is well; 4 contract cases hold, 2 do not; 3 keys, 1 of them cannot be bound as they are.",
        "",
        "## Operations",
        "",
        "| operation | done | ms a call | what it means |",
        "|---|---|---|---|",
        "| TDEA PIN block | native | - | Get PIN and Set PIN can be answered |",
        "| re-encipherment | native | - | PIN blocks move between keys inside the token |",
        "| key agreement | native | - | Set PIN: JWEs open with the key in the token |",
        "| MAC iso9797-1-alg1 | composed | - | PRW and MAC of this kind (SECCOS): out of CBC calls, see composedMac |",
        "| MAC iso9797-1-alg3 | native | - | PRW and MAC of this kind (SECCOS) |",
        "| MAC cmac | native | - | PRW and MAC of this kind (SECCOS) |",
        "| MAC hmac-sha256 | native | - | PRW and MAC of this kind (SECCOS) |",
        "| signing ES256 | native | - | tokens for D1 (client assertion) |",
        "| random | native | 0.00 | PINs, fillers, nonces |",
        "",
        "Health: ok: it answers. TDEA: the token.",
        "",
        "- a first note",
        "- another | in two parts",
        "",
        "## Keys",
        "",
        "| kid | usage | algorithm | KCV | origin | judgement |",
        "|---|---|---|---|---|---|",
        "| X | cmac | aes-128 | 0A1B2C3D4E (cmac) | generated | ok |",
        "| Y | ? | ? | - | unknown | ERR_KEY_USAGE: a \\| b?and c |",
        "| Z | hmac | hmac-sha256 | 0A1B2C3D4E (cmac) | brought-in | ok |",
        "",
        "## Contract",
        "",
        "4 cases hold on public test keys, which were deleted again.",
        "",
        "- FAILED a wrong answer: Error",
        "- FAILED another: Error",
        "- the token does not take CMAC-T (cmac, tdea-2key): ERR_BACKEND_FAILED: CMAC-T is refused",
        "- 3 cases need what the token does not offer; the JSON report names them",
        "",
      ]
    `)
    const { capabilities, operations: _, ...rest } = json
    expect(capabilities).toEqual(RICH)
    expect(rest).toMatchInlineSnapshot(`
      {
        "contract": {
          "failed": [
            "a wrong answer: Error",
            "another: Error",
          ],
          "impossible": [
            "a",
            "b",
            "c",
          ],
          "passed": 4,
          "refused": [
            "CMAC-T (cmac, tdea-2key): ERR_BACKEND_FAILED: CMAC-T is refused",
          ],
        },
        "health": {
          "detail": "it answers",
          "ok": true,
        },
        "keys": [
          {
            "algorithm": "aes-128",
            "checkValue": {
              "method": "cmac",
              "value": "0A1B2C3D4E",
            },
            "id": "",
            "kid": "X",
            "mode": "C",
            "origin": "generated",
            "usage": "cmac",
          },
          {
            "id": "",
            "kid": "Y",
            "mode": "C",
            "origin": "unknown",
            "problem": "ERR_KEY_USAGE: a | b
      and c",
          },
          {
            "algorithm": "hmac-sha256",
            "checkValue": {
              "method": "cmac",
              "value": "0A1B2C3D4E",
            },
            "id": "",
            "kid": "Z",
            "mode": "C",
            "origin": "brought-in",
            "usage": "hmac",
          },
        ],
        "made": "2026-03-04T05:06:07.089Z",
        "module": "/x.so",
        "processorSeconds": 2.3,
        "seconds": 7.3,
        "token": "issuer",
      }
    `)
  })

  test('that can do nothing, and is not well', async () => {
    const token = new Told()
    token.capabilities = { ...POOR, keyAgreement: 'token-extract' }
    token.health = { ok: false, detail: 'it does not answer' }
    const { code, out, report } = await told(token)
    expect(code).toBe(1)
    expect(out.split('\n')).toMatchInlineSnapshot(`
      [
        "operation           done      ms    what it means for D1",
        "---------           ----      --    --------------------",
        "TDEA PIN block      none      -     no Get PIN and no Set PIN from this token",
        "re-encipherment     composed  -     PIN blocks move through host memory: keys bound with hostDecipher, or not at all",
        "key agreement       composed  -     Set PIN: JWEs open with the key in the token, Z in host memory",
        "MAC iso9797-1-alg1  none      -     a PRW or MAC of this kind needs a software key",
        "MAC iso9797-1-alg3  none      -     a PRW or MAC of this kind needs a software key",
        "MAC cmac            none      -     a PRW or MAC of this kind needs a software key",
        "MAC hmac-sha256     none      -     a PRW or MAC of this kind needs a software key",
        "signing ES256       none      -     the client assertion needs a software key",
        "random              none      0.00  PINs, fillers, nonces",
        "the token is NOT well; 1 contract cases hold, 0 do not; 0 keys, 0 of them cannot be bound as they are.",
      ]
    `)
    expect(report).toContain('Health: NOT ok: it does not answer. TDEA: none.')
    token.capabilities = POOR
    const { operations } = await reported(token, '--no-test-keys')
    expect(operations.find(({ operation }) => operation === 'key agreement')).toEqual({
      operation: 'key agreement',
      how: 'none',
      meaning: 'Set PIN: the JWE key must be in software',
    })
  })

  test('is written over nothing that came in between', async () => {
    for (const option of ['--report', '--report-json']) {
      const path = fresh()
      class Slow extends Told {
        override async store(options: KeyStoreOptions): Promise<KeyStore> {
          writeFileSync(path, 'mine')
          return super.store(options)
        }
      }
      const { code, err } = await examined(new Slow(), [...ONE, option, path])
      expect([code, err]).toEqual([2, `ERR_USAGE: ${option} cannot be written: EEXIST`])
      expect(readFileSync(path, 'utf8')).toBe('mine')
    }
    const path = fresh()
    await examined(new Told(), [...ONE, '--report', path, '--no-test-keys', '--report-json', file('taken')])
    expect(existsSync(path)).toBe(false)
  })
})

describe('of a group', () => {
  const key = (kid: string, more: Partial<ListedKey> = {}): ListedKey => ({ ...LISTED, kid, ...more })
  const other = key('K', { checkValue: { method: 'cmac', value: 'FFFFFFFFFF' } })
  const group = (tokens: object) =>
    file({ members: Object.keys(tokens).map(module => ({ module, token: `at ${module}` })) })
  const compared = async (...keys: readonly (readonly ListedKey[])[]) => {
    const tokens = Object.fromEntries(keys.map((each, i) => [`/${i + 1}.so`, new Told(each)]))
    const args = ['--group', group(tokens), '--no-test-keys']
    const { code, out } = await examined(tokens, [...args, '--json'])
    const { members, differences } = JSON.parse(out) as {
      members: { token: string }[]
      differences: string[]
    }
    expect(members.map(({ token }) => token)).toEqual(keys.map((_, i) => `at /${i + 1}.so`))
    const report = fresh()
    const words = await examined(tokens, [...args, '--report', report])
    const lines = differences.map(line => `DIFFERENT ${line}`)
    expect(words.out.split(/\n(?=DIFFERENT)/).slice(1)).toEqual(lines)
    const paper = readFileSync(report, 'utf8').split('\n- DIFFERENT').slice(1)
    expect(paper).toEqual(lines.map(line => line.replace('DIFFERENT', '').replaceAll(/[\n\u202e]/g, '?')))
    expect([words.code, code]).toEqual(differences.length === 0 ? [0, 0] : [1, 1])
    return differences
  }

  test.each<[string, (readonly ListedKey[])[], string[]]>([
    [
      'the same keys, in another order',
      [
        [key('K'), key('L')],
        [key('L'), key('K')],
      ],
      [],
    ],
    ['no key', [[], []], []],
    ['one that the first has not', [[], [key('K')]], ['no key', 'aes-128 0A1B2C3D4E']],
    ['one that the second has not', [[key('K')], []], ['aes-128 0A1B2C3D4E', 'no key']],
    [
      'one that the last of three has not',
      [[key('K')], [key('K')], []],
      ['aes-128 0A1B2C3D4E', 'aes-128 0A1B2C3D4E', 'no key'],
    ],
    ['another key by one name', [[key('K')], [other]], ['aes-128 0A1B2C3D4E', 'aes-128 FFFFFFFFFF']],
    [
      'another algorithm',
      [[key('K')], [key('K', { algorithm: 'aes-256' })]],
      ['aes-128 0A1B2C3D4E', 'aes-256 0A1B2C3D4E'],
    ],
    [
      'a key twice',
      [[key('K')], [key('K'), key('K')]],
      ['aes-128 0A1B2C3D4E', 'aes-128 0A1B2C3D4E, aes-128 0A1B2C3D4E'],
    ],
    [
      'two keys by one name, which are the same two',
      [
        [key('K'), other],
        [other, key('K')],
      ],
      [],
    ],
  ])('%s', async (_, keys, differ) => {
    const said = differ.map((found, i) => `at /${i + 1}.so: ${found}`).join('; ')
    expect(await compared(...keys)).toEqual(differ.length === 0 ? [] : [`key K: ${said}`])
  })

  test('a name that plays tricks is one line of the report', async () => {
    const [difference = ''] = await compared([key('K\n- \u202e')], [])
    expect(difference).toMatch(/^key K\n/)
  })

  test('each key that differs is named, whichever token has it', async () => {
    const differences = await compared([key('A'), key('K')], [key('K'), key('B')])
    expect(differences.map(line => line.replace(/:.*/, ''))).toEqual(['key A', 'key B'])
  })

  test('one whose second token fails a case, and one whose second is not well, is not well', async () => {
    for (const wrong of ['contract', 'health']) {
      const tokens = { '/1.so': new Told(), '/2.so': new Told() }
      if (wrong === 'health') tokens['/2.so'].health = { ok: false, detail: '' }
      let opened = 0
      contract.cases = [
        { name: 'a case', run: async () => expect(wrong === 'contract' ? opened++ : 0).toBe(0) },
      ]
      const { code, out } = await examined(tokens, ['--group', group(tokens)])
      expect([wrong, code]).toEqual([wrong, 1])
      expect(out).toMatch(/^token at \/1\.so:\n(?:.*\n)*token at \/2\.so:\n/)
    }
  })
})
