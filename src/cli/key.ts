/** `key`: what a key officer does: components, key blocks, check values; keys made, brought in, listed, rotated and deleted. */

import { randomFillSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import type { Key } from '../backend/key.js'
import { fromHex, secretBytes, toHex, wipe } from '../base/bytes.js'
import {
  combineComponents,
  type KeyAlgorithm,
  keyCheckValue,
  type MacAlgorithm,
  openKeyBlock,
  readKeyBlockHeader,
  type SymmetricAlgorithm,
  sealKeyBlock,
  splitKey,
  translateKeyBlock,
} from '../index.js'
import {
  type CeremonyEntry,
  importKeyBlock,
  keyCeremony,
  type NewKey,
  type StoredTokenKey,
  sealCeremonyRecord,
} from '../pkcs11.js'
import { KEY_BYTES } from '../primitives/algorithms.js'
import { type Command, type ExitCode, type Io, readArguments, readInput, UsageError } from './command.js'
import {
  dateOf,
  FLAG,
  need,
  numberOf,
  OPENING,
  type Opening,
  type OptionTable,
  oneOf,
  readSecret,
  SOURCE_HELP,
  SOURCE_OPTIONS,
  secretOptions,
  TEXT,
  text,
  useOf,
  type Values,
  withBackend,
  withStore,
} from './open.js'
import { headerRows, show, tableOf } from './shown.js'

const OPTIONS: OptionTable = {
  ...SOURCE_OPTIONS,
  ...secretOptions('key'),
  kid: TEXT,
  id: TEXT,
  usage: TEXT,
  mode: TEXT,
  algorithm: TEXT,
  method: TEXT,
  kcv: TEXT,
  parts: TEXT,
  parity: TEXT,
  macs: { type: 'string', multiple: true },
  'host-decipher': FLAG,
  translation: FLAG,
  'valid-from': TEXT,
  'valid-to': TEXT,
  from: TEXT,
  to: TEXT,
  kbpk: TEXT,
  'kbpk-algorithm': TEXT,
  under: TEXT,
  wrapping: TEXT,
  version: TEXT,
  exportability: TEXT,
  'key-version': TEXT,
  out: TEXT,
  'new-kid': TEXT,
  record: TEXT,
  'record-key': TEXT,
  'import-clear-keys': FLAG,
  yes: FLAG,
}

type Verb = (values: Values, rest: readonly string[], io: Io, opening: Opening) => Promise<ExitCode>

const SYMMETRIC = ['tdea-2key', 'tdea-3key', 'aes-128', 'aes-192', 'aes-256'] as const

/** What a new key is called and for. */
function newKey(values: Values): NewKey {
  const { macs } = values
  const validFrom = dateOf(values, 'valid-from')
  const validTo = dateOf(values, 'valid-to')
  return {
    kid: need(values, 'kid'),
    algorithm: need(values, 'algorithm') as KeyAlgorithm,
    ...useOf(values),
    ...(Array.isArray(macs) && { macs: macs as readonly MacAlgorithm[] }),
    ...(values['host-decipher'] === true && { hostDecipher: true }),
    ...(values['translation'] === true && { translation: true }),
    ...(validFrom !== undefined && { validFrom }),
    ...(validTo !== undefined && { validTo }),
  }
}

function shownKey({
  kid,
  id,
  usage,
  algorithm,
  checkValue,
  validFrom,
  validTo,
  refusedAttributes,
}: StoredTokenKey): object {
  return { kid, id, usage, algorithm, checkValue, validFrom, validTo, refusedAttributes }
}

function inWords({
  kid,
  usage,
  algorithm,
  checkValue,
  refusedAttributes = [],
}: Pick<StoredTokenKey, 'kid' | 'usage' | 'algorithm' | 'checkValue' | 'refusedAttributes'>): string {
  const refused =
    refusedAttributes.length === 0 ? '' : `; the token did not take ${refusedAttributes.join(', ')}`
  return `${kid}: ${usage}, ${algorithm}, KCV ${checkValue.value} (${checkValue.method})${refused}`
}

const list: Verb = (values, _rest, io, opening) =>
  withStore(values, io, opening, async store => {
    const keys = await store.listKeys({
      onProgress: ({ done, of }) => io.progress?.(`${done} of ${of} keys`),
    })
    const rows = keys.map(key => [
      key.kid,
      key.usage ?? '?',
      key.algorithm ?? '?',
      key.checkValue?.value ?? '-',
      key.checkValue?.method ?? '-',
      key.origin,
      key.validTo?.slice(0, 10) ?? '',
      key.problem === undefined ? 'ok' : key.problem.replace(/:.*$/, ''),
    ])
    const head = ['kid', 'usage', 'algorithm', 'KCV', 'method', 'origin', 'until', 'state']
    const problems = keys.flatMap(({ kid, problem }) => (problem === undefined ? [] : [`${kid}: ${problem}`]))
    show(values, io, keys, [tableOf(head, rows, io), ...problems].join('\n'))
    return problems.length === 0 ? 0 : 1
  })

const kcv: Verb = async (values, _rest, io) => {
  const algorithm = oneOf(values, 'algorithm', SYMMETRIC)
  const method =
    values['method'] === undefined ? undefined : oneOf(values, 'method', ['encrypt-zero', 'cmac'])
  const material = await readSecret('key', 'TEST key (hex)', values, io)
  const facts = await keyCheckValue({ material, algorithm, ...(method !== undefined && { method }) })
  const { checkValue, parity } = facts
  show(values, io, facts, `KCV ${checkValue.value} (${checkValue.method}), parity ${parity}`)
  return 0
}

const generate: Verb = async (values, _rest, io, opening) => {
  const wanted = newKey(values)
  const out = text(values, 'out')
  if (out === undefined) {
    return withStore(values, io, opening, async store => {
      const made = await store.generateKey(wanted)
      show(values, io, shownKey(made), inWords(made))
      return 0
    })
  }
  // A test key in a file: only that the owner may read.
  const algorithm = oneOf(values, 'algorithm', SYMMETRIC)
  const bytes = randomFillSync(secretBytes(KEY_BYTES[algorithm]))
  const material = toHex(bytes)
  wipe(bytes)
  const { checkValue } = await keyCheckValue({ material, algorithm })
  const { kid, usage, mode } = wanted
  writeNew(
    out,
    `${JSON.stringify([{ kid, usage, ...(mode !== undefined && { mode }), algorithm, material }])}\n`,
  )
  show(values, io, { kid, usage, algorithm, checkValue }, inWords({ kid, usage, algorithm, checkValue }))
  return 0
}

/** A file that was not there, for its owner alone. */
function writeNew(path: string, content: string): void {
  try {
    writeFileSync(path, content, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    throw new UsageError(`--out cannot be written: ${String((error as NodeJS.ErrnoException).code)}`)
  }
}

const components: Verb = async (values, [what], io) => {
  const algorithm = oneOf(values, 'algorithm', SYMMETRIC)
  const parts = numberOf(values, 'parts', [2, 9])
  const kid = text(values, 'kid') ?? 'key'
  const out = need(values, 'out')
  if (what === 'split') {
    const material = await readSecret('key', 'TEST key (hex)', values, io)
    const split = await splitKey({ kid, algorithm, material, parts })
    for (const [i, { component }] of split.components.entries()) {
      writeNew(`${out}-${i + 1}`, `${toHex(component)}\n`)
      wipe(component)
    }
    const rows = split.components.map(({ checkValue }, i) => [
      `${out}-${i + 1}`,
      checkValue.value,
      checkValue.method,
    ])
    const result = {
      components: rows.map(([file, value]) => ({ file, kcv: value })),
      checkValue: split.checkValue,
    }
    show(
      values,
      io,
      result,
      tableOf(
        ['file', 'KCV', 'method'],
        [...rows, [kid, split.checkValue.value, split.checkValue.method]],
        io,
      ),
    )
    return 0
  }
  if (what !== 'combine') throw new UsageError('key components takes split or combine')
  const expected = need(values, 'kcv')
  const parity = values['parity'] === undefined ? 'report' : oneOf(values, 'parity', ['report', 'adjust'])
  const usage = useOf(values)
  const entered = []
  for await (const { component, kcv: own } of enteredParts(parts, values, io))
    entered.push({ component, kcv: own })
  const key = await combineComponents({ kid, algorithm, components: entered, kcv: expected, parity })
  try {
    writeNew(out, `${JSON.stringify([{ kid, ...usage, algorithm, material: toHex(key.material) }])}\n`)
  } finally {
    wipe(key.material)
  }
  const { checkValue, parity: was } = key
  show(
    values,
    io,
    { kid, algorithm, checkValue, parity: was },
    `${kid}: ${algorithm}, KCV ${checkValue.value}, parity ${was}`,
  )
  return 0
}

/** Officers, one after the other: name, component without echo, check value. */
async function* enteredParts(parts: number, values: Values, io: Io): AsyncGenerator<CeremonyEntry> {
  for (let i = 1; i <= parts; i++) {
    const ask = (what: string): Promise<string> =>
      readSecret(`component-${i}-${what}`, `officer ${i}: ${what}`, values, io)
    yield {
      officer: await ask('name'),
      component: (await ask('component')).replaceAll(/\s/g, ''),
      kcv: (await ask('kcv')).trim(),
    }
  }
}

const COMPONENT_OPTIONS = Object.assign(
  {},
  ...Array.from({ length: 9 }, (_, i) =>
    ['name', 'component', 'kcv'].map(what => secretOptions(`component-${i + 1}-${what}`)),
  ).flat(),
) as OptionTable

const importKey: Verb = async (values, [file], io, opening) => {
  const from = oneOf(values, 'from', ['components', 'block', 'wrapped', 'clear'])
  const clear = values['import-clear-keys'] === true
  if (from === 'components') return ceremony(values, io, opening, clear)
  if (from === 'block') {
    const block = (await readInput(file, io)).trim()
    const { usage, mode } = useOf(values)
    const { algorithm: _, ...rest } = newKey({ ...values, algorithm: 'aes-128' })
    return withBackend(values, io, opening, async backend =>
      withStore(
        values,
        io,
        opening,
        async store => {
          const key = await backend.bind({
            kid: need(values, 'kbpk'),
            usage: 'key-block-protection',
            hostDecipher: true,
          })
          const { key: made, warnings } = await importKeyBlock({
            store,
            key,
            block,
            ...rest,
            usage,
            ...(mode !== undefined && { mode }),
          })
          for (const warning of warnings) io.err(`warning: ${warning}`)
          show(values, io, { ...shownKey(made), warnings }, inWords(made))
          return 0
        },
        { importClearKeys: clear },
      ),
    )
  }
  const wanted = newKey(values)
  const expected = need(values, 'kcv')
  if (from === 'wrapped') {
    const wrapping = oneOf(values, 'wrapping', ['rfc3394', 'rfc5649'])
    const under = need(values, 'under')
    const wrapped = hexOf((await readInput(file, io)).trim(), 'the wrapped key')
    return withStore(values, io, opening, async store => {
      const made = await store.unwrapKey({ ...wanted, wrapped, wrapping, under, kcv: expected })
      show(values, io, shownKey(made), inWords(made))
      return 0
    })
  }
  const material = await readSecret('key', 'clear key (hex)', values, io)
  return withStore(
    values,
    io,
    opening,
    async store => {
      const made = await store.importKey({ ...wanted, material, kcv: expected })
      show(values, io, shownKey(made), inWords(made))
      return 0
    },
    { importClearKeys: clear },
  )
}

/** Hex of public bytes; `ERR_USAGE` that repeats nothing. */
export function hexOf(given: string, what: string): Uint8Array {
  if (!/^(?:[0-9A-Fa-f]{2})+$/.test(given)) throw new UsageError(`${what} is given as hex digits`)
  return fromHex(given, what)
}

async function ceremony(values: Values, io: Io, opening: Opening, clear: boolean): Promise<ExitCode> {
  const wanted = newKey(values)
  const parts = numberOf(values, 'parts', [2, 9])
  const expected = need(values, 'kcv')
  const recordPath = text(values, 'record')
  const recordKey = recordPath === undefined ? undefined : need(values, 'record-key')
  return withStore(
    values,
    io,
    opening,
    async (store, options) => {
      const entries = enteredParts(parts, values, io)
      const input = { ...wanted, algorithm: wanted.algorithm as SymmetricAlgorithm }
      const { key, record } = await keyCeremony({ store, ...input, entries, kcv: expected })
      let sealed: string | undefined
      if (recordKey !== undefined) {
        await using backend = await opening.backend(options)
        const key = await backend.bind({ kid: recordKey, usage: 'jwt-signing' })
        sealed = await sealCeremonyRecord({ record, key })
      }
      if (recordPath !== undefined) writeNew(recordPath, `${sealed}\n`)
      const where =
        record.combined === 'in-token'
          ? 'combined inside the token'
          : 'combined in this process, in memory that was wiped: the token does not combine components'
      show(values, io, { ...shownKey(key), record, sealed }, `${inWords(key)}\n${where}`)
      return 0
    },
    { importClearKeys: clear },
  )
}

const block: Verb = async (values, [what, file], io, opening) => {
  if (what === 'read') {
    const header = readKeyBlockHeader((await readInput(file, io)).trim())
    show(
      values,
      io,
      header,
      `${tableOf(['field', 'value'], headerRows(header), io)}\nnot authenticated: read without a key`,
    )
    return 0
  }
  return withBackend(values, io, opening, async backend => {
    const bind = (kid: string): Promise<Key> =>
      backend.bind({ kid, usage: 'key-block-protection', hostDecipher: true })
    if (what === 'open') {
      const given = (await readInput(file, io)).trim()
      const opened = await openKeyBlock({
        key: await bind(need(values, 'kbpk')),
        block: given,
        ...useOf(values),
      })
      // The key itself is not for a screen.
      wipe(opened.material)
      const { algorithm, usage, mode, checkValue, parity, header, warnings } = opened
      for (const warning of warnings) io.err(`warning: ${warning}`)
      const rows = [
        ...headerRows(header),
        ['key', `${algorithm}, KCV ${checkValue.value} (${checkValue.method}), parity ${parity}`],
      ]
      show(
        values,
        io,
        { algorithm, usage, mode, checkValue, parity, header, warnings },
        tableOf(['field', 'value'], rows, io),
      )
      return 0
    }
    if (what === 'translate') {
      const given = (await readInput(file, io)).trim()
      const [from, to] = [await bind(need(values, 'from')), await bind(need(values, 'to'))]
      const version = oneOf(values, 'version', ['B', 'D'])
      const moved = await translateKeyBlock({ from, to, block: given, usage: useOf(values).usage, version })
      show(values, io, moved, moved.block)
      return 0
    }
    if (what !== 'seal') throw new UsageError('key block takes read, open, seal or translate')
    const key = await bind(need(values, 'kbpk'))
    const validFrom = dateOf(values, 'valid-from')
    const validTo = dateOf(values, 'valid-to')
    const { usage, mode } = useOf(values)
    if (mode === undefined) throw new UsageError('--mode is missing')
    const sealed = await sealKeyBlock({
      key,
      version: oneOf(values, 'version', ['B', 'D']),
      algorithm: oneOf(values, 'algorithm', SYMMETRIC),
      usage,
      mode,
      exportability: oneOf(values, 'exportability', ['E', 'N', 'S']),
      material: await readSecret('key', 'clear key (hex)', values, io),
      ...(values['key-version'] !== undefined && { keyVersion: need(values, 'key-version') }),
      ...(validFrom !== undefined && { validFrom }),
      ...(validTo !== undefined && { validTo }),
    })
    show(values, io, sealed, `${sealed.block}\nKCV ${sealed.checkValue.value} (${sealed.checkValue.method})`)
    return 0
  })
}

const rotate: Verb = (values, _rest, io, opening) =>
  withStore(values, io, opening, async store => {
    const kid = need(values, 'kid')
    const next = need(values, 'new-kid')
    const old = (await store.listKeys()).filter(key => key.kid === kid)
    const [found, second] = old
    if (found === undefined) throw new UsageError('--kid: there is no such key')
    if (second !== undefined) throw new UsageError('--kid: there are two keys by that name')
    if (found.usage === undefined || found.algorithm === undefined)
      throw new UsageError(
        '--kid: this key was not made here; say what the next one is for with key generate',
      )
    const wanted = newKey({
      ...values,
      kid: next,
      usage: found.usage,
      algorithm: found.algorithm,
      'valid-to': values['valid-to'],
    })
    const made = await store.generateKey(wanted)
    const words = [
      inWords(made),
      `next: hand its KCV to whoever shares it; move what is enciphered under ${kid} (storage rotate moves the issuer store);`,
      `then key delete --kid ${kid}. Until then ${kid} stays for what is old.`,
    ]
    show(values, io, shownKey(made), words.join('\n'))
    return 0
  })

const remove: Verb = (values, _rest, io, opening) =>
  withStore(values, io, opening, async store => {
    const kid = need(values, 'kid')
    if (values['yes'] !== true)
      throw new UsageError('key delete takes --yes: what is enciphered under the key is lost with it')
    const id = text(values, 'id')
    await store.deleteKey({ kid, ...(id !== undefined && { id }) })
    show(values, io, { deleted: kid }, `${kid} is deleted`)
    return 0
  })

const check: Verb = (values, _rest, io, opening) =>
  withBackend(values, io, opening, async backend => {
    const expected = text(values, 'kcv')
    const key = await backend.bind({
      kid: need(values, 'kid'),
      ...useOf(values),
      hostDecipher: values['host-decipher'] === true,
      ...(expected !== undefined && { kcv: expected }),
    })
    const { detail } = await backend.health()
    const { kid, usage, mode, algorithm, checkValue, parity, validFrom, validTo, publicJwk } = key
    const result = { kid, usage, mode, algorithm, checkValue, parity, validFrom, validTo, publicJwk }
    const note = detail.includes(`key ${kid} `) ? `\n${detail}` : ''
    show(values, io, result, `${key}${expected === undefined ? '' : ': the check value is right'}${note}`)
    return 0
  })

const VERBS: Readonly<Record<string, Verb>> = {
  list,
  kcv,
  generate,
  components,
  import: importKey,
  block,
  rotate,
  delete: remove,
  check,
}

/** `issuer-pin-crypto key`. */
export function keyCommand(opening: Opening = OPENING): Command {
  return {
    name: 'key',
    summary: 'components, key blocks and check values; make, import, list, rotate, delete',
    help: `usage: issuer-pin-crypto key VERB [options] [FILE]

  list         the token's keys: usage, KCV, until when, what is wrong
  check        bind a key as a program would: --kid --usage [--mode] [--kcv]
  kcv          of a TEST key: --algorithm [--method encrypt-zero|cmac]
  generate     --kid --usage --algorithm [--mode] [--macs NAME]
               [--host-decipher] [--translation] [--valid-from] [--valid-to];
               in the token, or a TEST key into --out FILE
  components   split --algorithm --parts N --out PREFIX: a TEST key into files
               combine --algorithm --usage --parts N --kcv --out FILE
               [--parity adjust]
  import       --from components --parts N --kcv [--record FILE
               --record-key KID]: officers enter one component each
               --from block --kbpk KID [FILE]
               --from wrapped --under KID --wrapping rfc3394|rfc5649 --kcv
               --from clear --kcv; with --kid --usage --algorithm. What passes
               through this process takes --import-clear-keys
  block        read [FILE]; open --kbpk --usage [FILE];
               seal --kbpk --version B|D --algorithm --usage --mode
               --exportability E|N|S; translate --from --to --usage --version
  rotate       --kid --new-kid: the next key, for the same use
  delete       --kid [--id] --yes

Keys and components are typed without echo, or come by --key-fd, --key-env,
--component-N-component-fd and so on (name, component, kcv). They are never
arguments and never shown; results show check values. Exit code 1 where a
check value is wrong or a key cannot be bound.

${SOURCE_HELP}

example: issuer-pin-crypto key import --from components --parts 3 \\
    --kid ZMK --usage key-block-protection --algorithm aes-256 --kcv 1A2B3C4D5E \\
    --module /usr/lib/libCryptoki2_64.so --token issuer`,
    run: async ([verb = '', ...args], io) => {
      const run = Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined
      if (run === undefined) throw new UsageError(`key takes one of ${Object.keys(VERBS).join(', ')}`)
      const { values, positionals } = readArguments(args, {
        options: { ...OPTIONS, ...COMPONENT_OPTIONS },
        positionals: 2,
      })
      return run(values as Values, positionals, io, opening)
    },
  }
}
