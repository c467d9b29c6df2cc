/**
 * Key blocks on the command line: read without a key, opened, sealed, moved under another KBPK. Nothing is stored; a key that comes out
 * is not shown.
 */
import { wipe } from '../base/bytes.js'
import { type Key, openKeyBlock, readKeyBlockHeader, sealKeyBlock, translateKeyBlock } from '../index.js'
import { type ExitCode, type Io, readInput, UsageError } from './command.js'
import { type Opening, SOURCE_OPTIONS, withBackend } from './open.js'
import { readKeyHex } from './secret.js'
import { headerRows, show, tableOf } from './shown.js'
import {
  dateOf,
  need,
  type OptionTable,
  oneOf,
  optionsOf,
  secretOptions,
  symmetricOf,
  text,
  useOf,
  type Values,
  type Verb,
} from './verbs.js'

export type Import = (values: Values, file: string | undefined, io: Io, opening: Opening) => Promise<ExitCode>

/** Makes verbs of what also takes the opening of a token. */
export function verbsOf(opening: Opening): (options: OptionTable, run: Import, input?: boolean) => Verb {
  return (options, run, input = true) => ({
    options,
    input,
    run: (values, file, io) => run(values, file, io, opening),
  })
}

/** A block as it was pasted: lines that a mail program has broken are one. Blanks may be the block's own. */
export function blockIn(given: string): string {
  return given.trim().replaceAll(/\r?\n/g, '')
}

/** The key that protects a block, in a token or in a TEST key file. */
export function kbpkOf(
  backend: {
    bind: (spec: { kid: string; usage: 'key-block-protection'; hostDecipher: true }) => Promise<Key>
  },
  kid: string,
): Promise<Key> {
  return backend.bind({ kid, usage: 'key-block-protection', hostDecipher: true })
}

const readBlock = async (values: Values, file: string | undefined, io: Io): Promise<ExitCode> => {
  const header = readKeyBlockHeader(blockIn(await readInput(file, io)))
  const words = `${tableOf(['field', 'value'], headerRows(header), io)}\nnot authenticated: read without a key`
  show(values, io, header, words)
  return 0
}

const openBlock: Import = (values, file, io, opening) =>
  withBackend(values, io, opening, async backend => {
    const key = await kbpkOf(backend, need(values, 'kbpk'))
    const block = blockIn(await readInput(file, io))
    const opened = await openKeyBlock({ key, block, ...useOf(values) })
    // The key itself is not for a screen.
    wipe(opened.material)
    const { algorithm, usage, mode, checkValue, parity, header, warnings } = opened
    for (const warning of warnings) io.err(`warning: ${warning}`)
    const rows = [
      ...headerRows(header),
      ['key', `${algorithm}, KCV ${checkValue.value} (${checkValue.method}), parity ${parity}`],
    ]
    const result = { algorithm, usage, mode, checkValue, parity, header, warnings }
    show(values, io, result, tableOf(['field', 'value'], rows, io))
    return 0
  })

const sealBlock: Import = (values, _file, io, opening) =>
  withBackend(values, io, opening, async backend => {
    const key = await kbpkOf(backend, need(values, 'kbpk'))
    const [validFrom, validTo] = [dateOf(values, 'valid-from'), dateOf(values, 'valid-to')]
    const { usage, mode } = useOf(values)
    if (mode === undefined) throw new UsageError('--mode is missing')
    const keyVersion = text(values, 'key-version')
    const sealed = await sealKeyBlock({
      key,
      version: oneOf(values, 'version', ['B', 'D']),
      algorithm: symmetricOf(values),
      usage,
      mode,
      exportability: oneOf(values, 'exportability', ['E', 'N', 'S']),
      material: await readKeyHex('key', 'clear key (hex)', values, io),
      ...(keyVersion !== undefined && { keyVersion }),
      ...(validFrom !== undefined && { validFrom }),
      ...(validTo !== undefined && { validTo }),
    })
    const { value, method } = sealed.checkValue
    show(values, io, sealed, `${sealed.block}\nKCV ${value} (${method})`)
    return 0
  })

const translateBlock: Import = (values, file, io, opening) =>
  withBackend(values, io, opening, async backend => {
    const [from, to] = [
      await kbpkOf(backend, need(values, 'from')),
      await kbpkOf(backend, need(values, 'to')),
    ]
    const version = oneOf(values, 'version', ['B', 'D'])
    const { usage } = useOf(values)
    const block = blockIn(await readInput(file, io))
    const moved = await translateKeyBlock({ from, to, block, usage, version })
    show(values, io, moved, moved.block)
    return 0
  })

/** The verbs of `key block`. */
export function blockVerbs(opening: Opening): Readonly<Record<string, Verb>> {
  const own = secretOptions('key')
  const verb = verbsOf(opening)
  return {
    'block read': verb(optionsOf('json'), readBlock),
    'block open': verb({ ...SOURCE_OPTIONS, ...optionsOf('kbpk', 'usage', 'mode') }, openBlock),
    'block seal': verb(
      {
        ...SOURCE_OPTIONS,
        ...own,
        ...optionsOf(
          'kbpk',
          'version',
          'algorithm',
          'usage',
          'mode',
          'exportability',
          'key-version',
          'valid-from',
          'valid-to',
        ),
      },
      sealBlock,
      false,
    ),
    'block translate': verb(
      { ...SOURCE_OPTIONS, ...optionsOf('from', 'to', 'usage', 'version') },
      translateBlock,
    ),
  }
}
