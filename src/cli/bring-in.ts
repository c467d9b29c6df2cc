/**
 * Keys that come from elsewhere: components that officers enter, one after the other, or that are split and combined for tests; key
 * blocks; wrapped and clear keys. Whatever goes wrong, the entry that is wrong is named, and the token holds what it held before.
 */
import { accessSync, closeSync, constants, existsSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { toHex, wipe } from '../base/bytes.js'
import { ArgumentError, isIssuerPinError } from '../base/errors.js'
import { combineComponents, type Key, type MacAlgorithm, type P256PublicJwk, splitKey } from '../index.js'
import { readMaterial } from '../key/material.js'
import { requireComponent } from '../key-block/components.js'
import {
  type CeremonyEntry,
  type CeremonyRecord,
  importKeyBlock,
  type KeyStore,
  keyCeremony,
  type NewKey,
  openCeremonyRecord,
  type StoredTokenKey,
  sealCeremonyRecord,
} from '../pkcs11.js'
import { type SoftwareKey, softwareBackend } from '../software.js'
import { blockIn, type Import, kbpkOf, verbsOf } from './block.js'
import { type ExitCode, type Io, readInput, readJson, UsageError } from './command.js'
import { type Opening, SOURCE_OPTIONS, TOKEN_OPTIONS, withBackend, withStore } from './open.js'
import { isTyped, readKeyHex, readSecret } from './secret.js'
import { reason, show, tableOf } from './shown.js'
import {
  dateOf,
  hexOf,
  kcvOf,
  keyAlgorithmOf,
  need,
  numberOf,
  type OptionTable,
  oneOf,
  optionsOf,
  refuse,
  secretOptions,
  symmetricOf,
  text,
  useOf,
  type Values,
  type Verb,
} from './verbs.js'

/** What says how a new key is called and what it is for. */
export const NEW_KEY: OptionTable = optionsOf(
  'kid',
  'usage',
  'mode',
  'algorithm',
  'macs',
  'host-decipher',
  'translation',
  'valid-from',
  'valid-to',
)

/** What a new key is called and for. */
export function newKey(values: Values): NewKey {
  const { macs } = values
  const validFrom = dateOf(values, 'valid-from')
  const validTo = dateOf(values, 'valid-to')
  return {
    kid: need(values, 'kid'),
    algorithm: keyAlgorithmOf(values),
    ...useOf(values),
    ...(Array.isArray(macs) && { macs: macs.map(macNamed) }),
    ...(values['host-decipher'] === true && { hostDecipher: true }),
    ...(values['translation'] === true && { translation: true }),
    ...(validFrom !== undefined && { validFrom }),
    ...(validTo !== undefined && { validTo }),
  }
}

const MACS = ['iso9797-1-alg1', 'iso9797-1-alg3', 'cmac', 'hmac-sha256'] as const

function macNamed(given: string): MacAlgorithm {
  const found = MACS.find(name => name === given)
  if (found === undefined) throw new UsageError(`--macs must be one of ${MACS.join(', ')}`)
  return found
}

/** What JSON says of a key in a token. */
export function shownKey(key: StoredTokenKey): object {
  const { kid, id, usage, algorithm, checkValue, validFrom, validTo, refusedAttributes } = key
  return { kid, id, usage, algorithm, checkValue, validFrom, validTo, refusedAttributes }
}

/** The same in words. */
export function inWords({
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

/**
 * Writes a TEST key into a new file, after it was opened as a program would open it: what nobody could use is not written. Gives what may
 * be said of it.
 */
export async function writeTestKey(
  path: string,
  given: Pick<SoftwareKey, 'kid' | 'usage' | 'mode' | 'algorithm' | 'material' | 'validFrom' | 'validTo'>,
): Promise<
  Pick<Key, 'kid' | 'usage' | 'mode' | 'algorithm' | 'checkValue' | 'validFrom' | 'validTo' | 'publicJwk'>
> {
  const { kid, usage, mode, algorithm, material, validFrom, validTo } = given
  const key = {
    kid,
    usage,
    ...(mode !== undefined && { mode }),
    algorithm,
    material,
    ...(validFrom !== undefined && { validFrom }),
    ...(validTo !== undefined && { validTo }),
  }
  await using backend = await softwareBackend({ keys: [key] })
  const bound = await backend.bind({ kid, usage, ...(mode !== undefined && { mode }) })
  writeNew(path, `${JSON.stringify([key])}\n`)
  const { checkValue, publicJwk } = bound
  const period = { validFrom: bound.validFrom, validTo: bound.validTo }
  return { kid, usage, mode: bound.mode, algorithm, checkValue, publicJwk, ...period }
}

/** A file that was not there, for its owner alone; where the disk has no room for all of it, it is not there afterwards, either. */
function writeNew(path: string, content: string, option = 'out'): void {
  try {
    const file = openSync(path, 'wx', 0o600)
    try {
      writeFileSync(file, content)
    } catch (error) {
      rmSync(path)
      throw error
    } finally {
      closeSync(file)
    }
  } catch (error) {
    throw new UsageError(`--${option} cannot be written: ${String((error as NodeJS.ErrnoException).code)}`)
  }
}

/** `ERR_USAGE` where {@link writeNew} would have no place for a file: said before anything is done. */
export function requireNew(path: string, option: string): void {
  if (existsSync(path)) throw new UsageError(`--${option} is there already: name a new file`)
  try {
    accessSync(dirname(path), constants.W_OK)
  } catch (error) {
    throw new UsageError(`--${option} cannot be written: ${String((error as NodeJS.ErrnoException).code)}`)
  }
}

const PARTS: readonly [number, number] = [2, 9]

const split = async (values: Values, io: Io): Promise<ExitCode> => {
  const algorithm = symmetricOf(values)
  const parts = numberOf(values, 'parts', PARTS)
  const kid = text(values, 'kid') ?? 'key'
  const out = need(values, 'out')
  for (let i = 1; i <= parts; i++) requireNew(`${out}-${i}`, 'out')
  const material = await readKeyHex('key', 'TEST key (hex)', values, io)
  const { components, checkValue } = await splitKey({ kid, algorithm, material, parts })
  const made: string[] = []
  try {
    for (const [i, { component }] of components.entries()) {
      const file = `${out}-${i + 1}`
      writeNew(file, `${toHex(component)}\n`)
      made.push(file)
    }
  } catch (error) {
    // A part of the components is nothing to anybody.
    for (const file of made) rmSync(file)
    throw error
  } finally {
    wipe(...components.map(({ component }) => component))
  }
  const rows = components.map((one, i) => [`${out}-${i + 1}`, one.checkValue.value, one.checkValue.method])
  const result = { components: rows.map(([file, kcv]) => ({ file, kcv })), checkValue }
  const all = [...rows, [kid, checkValue.value, checkValue.method]]
  show(values, io, result, tableOf(['file', 'KCV', 'method'], all, io))
  return 0
}

const combine = async (values: Values, io: Io): Promise<ExitCode> => {
  const algorithm = symmetricOf(values)
  const parts = numberOf(values, 'parts', PARTS)
  const kid = text(values, 'kid') ?? 'key'
  const out = need(values, 'out')
  const kcv = neededKcv(values)
  const parity = values['parity'] === undefined ? 'report' : oneOf(values, 'parity', ['report', 'adjust'])
  const usage = useOf(values)
  requireNew(out, 'out')
  const entered: { component: string; kcv: string }[] = []
  for await (const entry of enteredParts({ algorithm, parts, kid }, values, io))
    entered.push({ component: String(entry.component), kcv: String(entry.kcv) })
  const key = await combineComponents({ kid, algorithm, components: entered, kcv, parity })
  try {
    await writeTestKey(out, { kid, ...usage, algorithm, material: toHex(key.material) })
  } finally {
    wipe(key.material)
  }
  const { checkValue, parity: was } = key
  const words = `${kid}: ${algorithm}, KCV ${checkValue.value}, parity ${was}`
  show(values, io, { kid, algorithm, checkValue, parity: was }, words)
  return 0
}

function neededKcv(values: Values): string {
  return need(values, 'kcv').replaceAll(/\s/g, '')
}

interface Wanted {
  readonly kid: string
  readonly algorithm: ReturnType<typeof symmetricOf>
  readonly parts: number
}

/** How often an officer at a terminal may enter a component that does not have its check value. */
const ENTRIES = 3

/** Officers, one after the other: name, component and check value, without echo. Between them the terminal shows nothing either. */
async function* enteredParts(wanted: Wanted, values: Values, io: Io): AsyncGenerator<CeremonyEntry> {
  const unhush = io.hush?.() ?? (() => {})
  try {
    for (let i = 1; i <= wanted.parts; i++) yield await enteredPart(wanted, i, values, io)
  } finally {
    unhush()
  }
}

async function enteredPart(wanted: Wanted, i: number, values: Values, io: Io): Promise<CeremonyEntry> {
  const ask = (what: string): Promise<string> =>
    readSecret(`component-${i}-${what}`, `officer ${i}: ${what}`, values, io)
  const officer = (await ask('name')).trim()
  for (let entry = 1; ; entry++) {
    const component = (await ask('component')).replaceAll(/\s/g, '')
    const kcv = (await ask('kcv')).replaceAll(/\s/g, '')
    try {
      await requireEntered(wanted, i, component, kcv)
      if (isTyped(`component-${i}-component`, values)) io.err(`officer ${i}: taken`)
      return { officer, component, kcv }
    } catch (error) {
      // What was typed wrong is typed again; what comes from a file would be the same.
      const again = isTyped(`component-${i}-component`, values) && isTyped(`component-${i}-kcv`, values)
      if (!isIssuerPinError(error) || !again || entry === ENTRIES) throw error
      io.err(`${reason(error)}: enter it again`)
    }
  }
}

async function requireEntered(
  { kid, algorithm }: Wanted,
  i: number,
  component: string,
  kcv: string,
): Promise<void> {
  const name = `${kid}, component ${i}`
  const part = readMaterial(name, component, algorithm)
  try {
    await requireComponent(name, algorithm, part, kcv, [])
  } finally {
    wipe(part)
  }
}

const COMPONENTS: OptionTable = secretOptions(
  ...Array.from({ length: PARTS[1] }, (_, i) =>
    ['name', 'component', 'kcv'].map(what => `component-${i + 1}-${what}`),
  ).flat(),
)

/** A way in, and the options that are its own. */
interface Way {
  readonly own: readonly string[]
  /** Whether a file, or standard input, is its input. */
  readonly input: boolean
  readonly run: Import
}

/** The ways in, by the word after `--from`. */
const WAYS: Readonly<Record<string, Way>> = {
  components: {
    own: [...Object.keys(COMPONENTS), 'algorithm', 'parts', 'record', 'record-key', 'record-usage'],
    input: false,
    run: ceremony,
  },
  block: {
    own: ['kbpk'],
    input: true,
    run: async (values, file, io, opening) => {
      requireClear(values)
      need(values, 'kbpk')
      // The block says which algorithm its key is for.
      const { algorithm: _, mode, ...wanted } = newKey({ ...values, algorithm: 'aes-128' })
      const block = blockIn(await readInput(file, io))
      const kcv = kcvOf(values)
      return withBackend(values, io, opening, async backend =>
        withStore(values, io, opening, async store => {
          const key = await kbpkOf(backend, need(values, 'kbpk'))
          const more = { ...(mode !== undefined && { mode }), ...(kcv !== undefined && { kcv }) }
          const { key: made, warnings } = await importKeyBlock({ store, key, block, ...wanted, ...more })
          for (const warning of warnings) io.err(`warning: ${warning}`)
          show(values, io, { ...shownKey(made), warnings }, inWords(made))
          return 0
        }),
      )
    },
  },
  wrapped: {
    own: ['algorithm', 'under', 'wrapping'],
    input: true,
    run: async (values, file, io, opening) => {
      const wanted = newKey(values)
      const kcv = neededKcv(values)
      const wrapping = oneOf(values, 'wrapping', ['rfc3394', 'rfc5649'])
      const under = need(values, 'under')
      const wrapped = hexOf(await readInput(file, io), 'the wrapped key')
      return withStore(values, io, opening, async store => {
        const made = await store.unwrapKey({ ...wanted, wrapped, wrapping, under, kcv })
        show(values, io, shownKey(made), inWords(made))
        return 0
      })
    },
  },
  clear: {
    own: ['algorithm', 'key-env', 'key-fd'],
    input: false,
    run: async (values, _file, io, opening) => {
      requireClear(values)
      const wanted = newKey(values)
      const kcv = neededKcv(values)
      const material = await readKeyHex('key', 'clear key (hex)', values, io)
      return withStore(values, io, opening, async store => {
        const made = await store.importKey({ ...wanted, material, kcv })
        show(values, io, shownKey(made), inWords(made))
        return 0
      })
    },
  },
}

/** Said before anybody is asked for a key. */
function requireClear(values: Values): void {
  if (values['import-clear-keys'] !== true)
    throw new UsageError('the clear key passes through this process: that takes --import-clear-keys')
}

const importKey: Import = (values, file, io, opening) => {
  const from = oneOf(values, 'from', Object.keys(WAYS))
  // oneOf has found it.
  const way = WAYS[from] as Way
  const others = Object.values(WAYS).flatMap(({ own }) => own)
  refuse(
    values,
    others.filter(name => !way.own.includes(name)),
    `does not go with --from ${from}`,
  )
  if (file !== undefined && !way.input) throw new UsageError(`--from ${from} reads no file`)
  return way.run(values, file, io, opening)
}

const RECORD_USAGES = ['jwt-signing', 'cmac'] as const

function recordUsageOf(values: Values): (typeof RECORD_USAGES)[number] {
  return values['record-usage'] === undefined ? 'jwt-signing' : oneOf(values, 'record-usage', RECORD_USAGES)
}

/** A ceremony: what it is recorded under is looked for first, and a key whose record cannot be made does not stay. */
async function ceremony(
  values: Values,
  _file: string | undefined,
  io: Io,
  opening: Opening,
): Promise<ExitCode> {
  const wanted = { ...newKey(values), algorithm: symmetricOf(values) }
  const parts = numberOf(values, 'parts', PARTS)
  const kcv = neededKcv(values)
  const path = text(values, 'record')
  if (path === undefined) refuse(values, ['record-key', 'record-usage'], 'goes with --record')
  else requireNew(path, 'record')
  const recordKey = path === undefined ? undefined : need(values, 'record-key')
  const usage = recordUsageOf(values)
  return withStore(values, io, opening, async (store, options) => {
    await using backend = recordKey === undefined ? undefined : await opening.backend(options)
    const signer = recordKey === undefined ? undefined : await backend?.bind({ kid: recordKey, usage })
    const entries = enteredParts({ kid: wanted.kid, algorithm: wanted.algorithm, parts }, values, io)
    const { key, record } = await keyCeremony({ store, ...wanted, entries, kcv }).catch(inWordsOfOptions)
    const sealed = await recorded(store, key, record, { signer, path })
    const where =
      record.combined === 'in-token'
        ? 'combined inside the token'
        : 'combined in this process, in memory that was wiped: the token does not combine components'
    show(values, io, { ...shownKey(key), record, sealed }, `${inWords(key)}\n${where}`)
    return 0
  })
}

/** The library names its own option; whoever reads this has a command line. */
function inWordsOfOptions(error: unknown): never {
  if (!(error instanceof ArgumentError) || !error.message.includes('importClearKeys')) throw error
  throw new UsageError(
    'this token does not combine components inside: the key would be in the memory of this process, which takes --import-clear-keys',
  )
}

/** `key record`: a ceremony's record, if it is as it was signed or sealed. */
const readRecord: Import = async (values, file, io, opening) => {
  const path = text(values, 'public')
  if (path !== undefined) refuse(values, ['record-key', 'record-usage'], 'does not go with --public')
  else need(values, 'record-key')
  const sealed = (await readInput(file, io)).trim()
  if (path !== undefined) {
    const key = readJson(await readInput(path, io), 'the public key') as unknown as P256PublicJwk
    return showRecord(values, io, await openCeremonyRecord({ sealed, key }))
  }
  return withBackend(values, io, opening, async backend => {
    const key = await backend.bind({ kid: need(values, 'record-key'), usage: recordUsageOf(values) })
    const { publicJwk } = key
    return showRecord(values, io, await openCeremonyRecord({ sealed, key: publicJwk ?? key }))
  })
}

function showRecord(values: Values, io: Io, record: CeremonyRecord | undefined): ExitCode {
  if (record === undefined) {
    show(values, io, { verified: false }, undefined)
    io.err('the record is not as this key signed or sealed it')
    return 1
  }
  const { kid, usage, mode, algorithm, combined, checkValue, components, finishedAt } = record
  const rows = [
    ['key', `${kid}: ${usage} ${mode}, ${algorithm}`],
    ['KCV', `${checkValue.value} (${checkValue.method})`],
    ['combined', combined],
    ['finished', finishedAt],
    ...components.map((one, i) => [
      `component ${i + 1}`,
      `${one.officer}, ${one.enteredAt}, KCV ${one.checkValue.value} (${one.checkValue.method})`,
    ]),
  ]
  show(values, io, { verified: true, record }, tableOf(['field', 'value'], rows, io))
  return 0
}

async function recorded(
  store: KeyStore,
  { kid, id }: StoredTokenKey,
  record: CeremonyRecord,
  { signer, path }: { readonly signer: Key | undefined; readonly path: string | undefined },
): Promise<string | undefined> {
  if (signer === undefined || path === undefined) return undefined
  try {
    const sealed = await sealCeremonyRecord({ record, key: signer })
    writeNew(path, `${sealed}\n`, 'record')
    return sealed
  } catch (error) {
    await store.deleteKey({ kid, ...(id !== '' && { id }) })
    throw error
  }
}

/** The verbs of `key` by which keys come in, and those of components. */
export function bringInVerbs(opening: Opening): Readonly<Record<string, Verb>> {
  const own = secretOptions('key')
  const verb = verbsOf(opening)
  return {
    'components split': verb(
      { ...optionsOf('kid', 'algorithm', 'parts', 'out', 'json'), ...own },
      (values, _file, io) => split(values, io),
      false,
    ),
    'components combine': verb(
      {
        ...optionsOf('kid', 'algorithm', 'usage', 'mode', 'parts', 'kcv', 'parity', 'out', 'json'),
        ...COMPONENTS,
      },
      (values, _file, io) => combine(values, io),
      false,
    ),
    import: verb(
      {
        ...TOKEN_OPTIONS,
        ...NEW_KEY,
        ...own,
        ...COMPONENTS,
        ...optionsOf(
          'from',
          'kcv',
          'parts',
          'kbpk',
          'under',
          'wrapping',
          'record',
          'record-key',
          'record-usage',
          'import-clear-keys',
        ),
      },
      importKey,
    ),
    record: verb({ ...SOURCE_OPTIONS, ...optionsOf('public', 'record-key', 'record-usage') }, readRecord),
  }
}
