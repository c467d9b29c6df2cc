/** Which options each verb takes, and of which kind: an option that is no longer read, or is read as another kind, is a line here. */
import { expect, test, vi } from 'vitest'
import { COMMANDS, main } from '../../src/cli/main.js'
import { SOURCE_OPTIONS, TOKEN_OPTIONS } from '../../src/cli/open.js'
import { keptIo } from './support/io.js'

type Table = Readonly<Record<string, { readonly type: string; readonly multiple?: boolean }>>

/** The options that `parseArgs` was told of last. */
const told = vi.hoisted(() => ({ options: {} as object }))
vi.mock('node:util', async original => {
  const real = await original<typeof import('node:util')>()
  const parseArgs: typeof real.parseArgs = config => {
    told.options = config?.options ?? {}
    return real.parseArgs(config)
  }
  return { ...real, parseArgs }
})

const run = async (args: readonly string[]): Promise<string> => {
  const io = keptIo()
  await main([...args], io)
  return io.errors.join('\n')
}

/** The verbs of a command; none for one that has no verbs. */
async function verbsOf(command: string): Promise<string[]> {
  const said = await run([command])
  const [, names] = /takes (?:one of|the verb) (.*)$/m.exec(said) ?? []
  const verbs: string[] = []
  for (const verb of names?.split(', ') ?? []) {
    const [, seconds] = /takes one of (.*)$/m.exec(await run([command, verb, '?'])) ?? []
    const pairs = seconds !== undefined && !seconds.startsWith(names ?? '') ? seconds.split(', ') : undefined
    verbs.push(...(pairs?.map(second => `${verb} ${second}`) ?? [verb]))
  }
  return verbs
}

/** `name` with a value, `name!` without, `name+` several times; those of the token, of keys, of secrets and of components as one. */
function optionsIn(table: Table): string {
  const has = (names: object): boolean => Object.keys(names).every(name => Object.hasOwn(table, name))
  const group = has(SOURCE_OPTIONS) ? SOURCE_OPTIONS : has(TOKEN_OPTIONS) ? TOKEN_OPTIONS : {}
  const kind = (name: string): string =>
    table[name]?.type === 'boolean' ? '!' : table[name]?.multiple === true ? '+' : ''
  const own = Object.keys(table)
    .filter(name => !Object.hasOwn(group, name))
    .map(
      name =>
        `${name.replace(/^component-[1-9]-/, 'component-N-').replace(/-(?:env|fd)$/, '-env|fd')}${kind(name)}`,
    )
  const source = group === SOURCE_OPTIONS ? ['<keys>'] : group === TOKEN_OPTIONS ? ['<token>'] : []
  return [...[...new Set(own)].sort(), ...source].join(' ')
}

test('what each verb takes', async () => {
  const all: Record<string, string> = {}
  for (const { name } of COMMANDS) {
    const verbs = await verbsOf(name)
    for (const verb of verbs.length === 0 ? [''] : verbs) {
      told.options = {}
      await run([name, ...verb.split(' ').filter(Boolean), '--no-such-option'])
      all[`${name} ${verb}`.trim()] = optionsIn(told.options as Table)
    }
  }
  expect(all).toMatchInlineSnapshot(`
    {
      "audit verify": "json! key-env|fd last public",
      "doctor": "no-test-keys! report report-json <token>",
      "inspect data-set": "json! profile",
      "inspect jwe": "json!",
      "inspect pin-block": "ask-pan! format key pan-env|fd state <keys>",
      "inspect profile": "json!",
      "jwe open": "key reveal! <keys>",
      "jwe seal": "json! kid recipient",
      "key block open": "kbpk mode usage <keys>",
      "key block read": "json!",
      "key block seal": "algorithm exportability kbpk key-env|fd key-version mode usage valid-from valid-to version <keys>",
      "key block translate": "from to usage version <keys>",
      "key check": "host-decipher! kcv kid mode usage <keys>",
      "key components combine": "algorithm component-N-component-env|fd component-N-kcv-env|fd component-N-name-env|fd json! kcv kid mode out parity parts usage",
      "key components split": "algorithm json! key-env|fd kid out parts",
      "key delete": "id kid yes! <token>",
      "key generate": "algorithm host-decipher! kid macs+ mode out translation! usage valid-from valid-to <token>",
      "key import": "algorithm component-N-component-env|fd component-N-kcv-env|fd component-N-name-env|fd from host-decipher! import-clear-keys! kbpk kcv key-env|fd kid macs+ mode parts record record-key record-usage translation! under usage valid-from valid-to wrapping <token>",
      "key kcv": "algorithm json! key-env|fd method",
      "key list": "<token>",
      "key record": "public record-key record-usage <keys>",
      "key rotate": "host-decipher! kid macs+ mode new-kid translation! valid-from valid-to <token>",
      "mac compute": "algorithm hex! key length padding <keys>",
      "mac verify": "algorithm hex! key length mac padding <keys>",
      "onboard": "assertion-kid client-key client-kid dir endpoint issuer-id jwe-kid subject <keys>",
      "pin decipher": "format key pan-env|fd reveal! <keys>",
      "pin encipher": "card-pin-env|fd format key pan-env|fd <keys>",
      "pin natural": "format key length pan-env|fd pvk rule <keys>",
      "pin offset": "format key pan-env|fd pvk rule <keys>",
      "pin pvv": "format key pan-env|fd pvk pvki <keys>",
      "pin translate": "from from-format host-decipher! pan-env|fd to to-format <keys>",
      "pin verify": "against card-pin-env|fd format key offset pan-env|fd profile prw-key pvk pvki pvv reference reference-format reference-key rule values <keys>",
      "probe": "draft! json!",
      "profile check": "json! samples",
      "profile search": "draft! json! only samples seconds workers",
      "prw compute": "key profile <keys>",
      "prw verify": "key profile <keys>",
      "storage count": "batch config json!",
      "storage pans": "batch config json!",
      "storage rotate": "batch config json!",
      "storage rows": "batch config json!",
      "token": "<token>",
    }
  `)
})

test('help names each of them', async () => {
  const unnamed: string[] = []
  for (const { name, help } of COMMANDS) {
    for (const verb of (await verbsOf(name)).concat('')) {
      told.options = {}
      await run([name, ...verb.split(' ').filter(Boolean), '--no-such-option'])
      const own = Object.keys(told.options).filter(option => !Object.hasOwn(SOURCE_OPTIONS, option))
      for (const option of own) {
        const plain = option
          .replace(/^component-[1-9]-.*$/, 'component-N-component-fd')
          .replace(/-(?:env|fd)$/, '')
        if (!help.includes(`--${plain}`)) unnamed.push(`${name} ${verb}: --${plain}`)
      }
    }
  }
  expect([...new Set(unnamed)]).toEqual([])
})

/** Where the keys of a call are, which nobody can read: what is missing is said before anybody looks. */
const NOWHERE = ['--keys', '/nowhere.json']

test('what must be there is asked for before keys are opened, one after the other', async () => {
  const needed: Record<string, string> = {}
  for (const { name } of COMMANDS) {
    for (const verb of await verbsOf(name)) {
      const given: string[] = []
      for (;;) {
        const said = await run([name, ...verb.split(' '), ...given.flatMap(one => [one, '1']), ...NOWHERE])
        const [, missing] = /^ERR_USAGE: (--\S+) is missing$/.exec(said) ?? []
        if (missing === undefined) break
        given.push(missing)
      }
      if (given.length > 0) needed[`${name} ${verb}`] = given.join(' ')
    }
  }
  expect(needed).toMatchInlineSnapshot(`
    {
      "inspect pin-block": "--state",
      "jwe open": "--key",
      "key record": "--record-key",
      "mac compute": "--key --algorithm --length",
      "mac verify": "--key --algorithm --length --mac",
      "pin decipher": "--key --format",
      "pin encipher": "--key --format",
      "pin natural": "--key --format --length --pvk --rule",
      "pin offset": "--key --format --pvk --rule",
      "pin pvv": "--key --format --pvk --pvki",
      "pin translate": "--from --to --from-format --to-format",
      "pin verify": "--key --format",
      "prw compute": "--key --profile",
      "prw verify": "--key --profile",
    }
  `)
})
