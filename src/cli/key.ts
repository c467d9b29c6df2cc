/** `key`: the keys of a token: made, listed, judged, rotated, deleted; and the check value of a test key. What is brought in from elsewhere: bring-in.ts. */
import { randomFillSync } from 'node:crypto'
import { secretBytes, toHex, withWiped } from '../base/bytes.js'
import { keyCheckValue } from '../index.js'
import { isTdea, KEY_BYTES, type KeyAlgorithm } from '../primitives/algorithms.js'
import { adjustParity } from '../primitives/tdea.js'
import { blockVerbs } from './block.js'
import { bringInVerbs, inWords, NEW_KEY, newKey, requireNew, shownKey, writeTestKey } from './bring-in.js'
import { type Command, type ExitCode, type Io, UsageError } from './command.js'
import { newPair } from './onboard.js'
import {
  OF_A_TOKEN,
  OPENING,
  type Opening,
  SOURCE_HELP,
  SOURCE_OPTIONS,
  TOKEN_OPTIONS,
  withBackend,
  withStore,
} from './open.js'
import { readKeyHex } from './secret.js'
import { show, tableOf } from './shown.js'
import {
  commandOfVerbs,
  kcvOf,
  need,
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

type Run = (values: Values, io: Io, opening: Opening) => Promise<ExitCode>

const list: Run = (values, io, opening) =>
  withStore(values, io, opening, async store => {
    const keys = await store.listKeys({
      onProgress: ({ done, of }) => io.progress?.(`${done} of ${of} keys`),
    })
    const rows = keys.map(key => [
      key.kid,
      key.usage ?? '?',
      key.mode ?? '?',
      key.algorithm ?? '?',
      key.checkValue?.value ?? '-',
      key.checkValue?.method ?? '-',
      key.origin,
      key.validTo?.slice(0, 10) ?? '',
      key.problem === undefined ? 'ok' : key.problem.replace(/:.*$/, ''),
    ])
    const head = ['kid', 'usage', 'mode', 'algorithm', 'KCV', 'method', 'origin', 'until', 'state']
    const problems = keys.flatMap(({ kid, problem }) => (problem === undefined ? [] : [`${kid}: ${problem}`]))
    show(values, io, keys, [tableOf(head, rows, io), ...problems].join('\n'))
    return problems.length === 0 ? 0 : 1
  })

const CIPHER_METHODS = ['encrypt-zero', 'cmac'] as const
/** How a check value can be made, by what the key is. */
const METHODS: Readonly<
  Record<ReturnType<typeof symmetricOf>, readonly ((typeof CIPHER_METHODS)[number] | 'hmac')[]>
> = {
  'tdea-2key': CIPHER_METHODS,
  'tdea-3key': CIPHER_METHODS,
  'aes-128': CIPHER_METHODS,
  'aes-192': CIPHER_METHODS,
  'aes-256': CIPHER_METHODS,
  'hmac-sha256': ['hmac'],
}

const kcv: Run = async (values, io) => {
  const algorithm = symmetricOf(values)
  const method = values['method'] === undefined ? undefined : oneOf(values, 'method', METHODS[algorithm])
  const material = await readKeyHex('key', 'TEST key (hex)', values, io)
  const facts = await keyCheckValue({ material, algorithm, ...(method !== undefined && { method }) })
  const { checkValue, parity } = facts
  show(values, io, facts, `KCV ${checkValue.value} (${checkValue.method}), parity ${parity}`)
  return 0
}

const generate: Run = async (values, io, opening) => {
  const wanted = newKey(values)
  if (values['out'] === undefined) {
    return withStore(values, io, opening, async store => {
      const made = await store.generateKey(wanted)
      show(values, io, shownKey(made), inWords(made))
      return 0
    })
  }
  refuse(values, IN_A_TOKEN, 'is for a key in a token, and --out makes a TEST key in a file')
  const out = need(values, 'out')
  requireNew(out, 'out')
  const made = await writeTestKey(out, { ...wanted, material: await newMaterial(wanted.algorithm) })
  show(values, io, made, inWords(made))
  return 0
}

/** Options of a key that a file of TEST keys has no place for. */
const IN_A_TOKEN = [...OF_A_TOKEN, 'macs', 'host-decipher', 'translation']

async function newMaterial(algorithm: KeyAlgorithm): Promise<string | object> {
  if (algorithm === 'ec-p256') return newPair()
  const bytes = randomFillSync(secretBytes(KEY_BYTES[algorithm]))
  if (isTdea(algorithm)) adjustParity(bytes)
  return withWiped(bytes, toHex)
}

const rotate: Run = (values, io, opening) =>
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
      mode: text(values, 'mode') ?? found.mode,
      algorithm: found.algorithm,
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

const remove: Run = (values, io, opening) =>
  withStore(values, io, opening, async store => {
    const kid = need(values, 'kid')
    if (values['yes'] !== true)
      throw new UsageError('key delete takes --yes: what is enciphered under the key is lost with it')
    const id = text(values, 'id')
    await store.deleteKey({ kid, ...(id !== undefined && { id }) })
    show(values, io, { deleted: kid }, `${kid} is deleted`)
    return 0
  })

const check: Run = (values, io, opening) =>
  withBackend(values, io, opening, async backend => {
    const expected = kcvOf(values)
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

/** `issuer-pin-crypto key`. */
export function keyCommand(opening: Opening = OPENING): Command {
  const command = {
    name: 'key',
    summary: 'components, key blocks and check values; make, import, list, rotate, delete',
    help: `usage: issuer-pin-crypto key VERB [options] [FILE]

  list         the token's keys: usage, KCV, until when, what is wrong
  check        bind a key as a program would: --kid --usage [--mode] [--kcv]
  kcv          of a TEST key: --algorithm [--method encrypt-zero|cmac]
  generate     --kid --usage --algorithm [--mode] [--macs NAME]
               [--host-decipher] [--translation] [--valid-from] [--valid-to];
               in the token, or a TEST key into --out FILE (P-256 as well)
  components   split --algorithm --parts N --out PREFIX: a TEST key into files
               combine --algorithm --usage --parts N --kcv --out FILE
               [--parity adjust]
  record       [--public JWK | --record-key KID] [FILE]: whether the record of a
               ceremony is as it was sealed, and what it says
  import       --from components --parts N --kcv [--record FILE
               --record-key KID [--record-usage cmac]]: officers enter one
               component each; the record is signed, or sealed by a CMAC
               --from block --kbpk KID [FILE]
               --from wrapped --under KID --wrapping rfc3394|rfc5649 --kcv
               --from clear --kcv; with --kid --usage --algorithm. What passes
               through this process takes --import-clear-keys
  block        read [FILE]; open --kbpk --usage [FILE];
               seal --kbpk --version B|D --algorithm --usage --mode
               --exportability E|N|S [--key-version] [--valid-from] [--valid-to];
               translate --from --to --usage --version
  rotate       --kid --new-kid [--macs NAME] [--host-decipher] [--translation]
               [--valid-from] [--valid-to]: the next key, for the same use and
               in the same mode
  delete       --kid [--id] --yes

Keys and components are typed without echo, or come by --key-fd, --key-env,
--component-N-component-fd and so on (name, component, kcv). They are never
arguments and never shown; results show check values. Exit code 1 where a
check value is wrong or a key cannot be bound.

${SOURCE_HELP}

example: issuer-pin-crypto key import --from components --parts 3 \\
    --kid ZMK --usage key-block-protection --algorithm aes-256 --kcv 1A2B3C4D5E \\
    --module /usr/lib/libCryptoki2_64.so --token issuer`,
  }
  const verb = (run: Run, options: Verb['options']): Verb => ({
    options,
    input: false,
    run: (values, _file, io) => run(values, io, opening),
  })
  return commandOfVerbs(command, {
    list: verb(list, TOKEN_OPTIONS),
    check: verb(check, { ...SOURCE_OPTIONS, ...optionsOf('kid', 'usage', 'mode', 'kcv', 'host-decipher') }),
    kcv: verb(kcv, { ...optionsOf('algorithm', 'method', 'json'), ...secretOptions('key') }),
    generate: verb(generate, { ...TOKEN_OPTIONS, ...NEW_KEY, ...optionsOf('out') }),
    rotate: verb(rotate, {
      ...TOKEN_OPTIONS,
      ...optionsOf(
        'kid',
        'new-kid',
        'mode',
        'macs',
        'host-decipher',
        'translation',
        'valid-from',
        'valid-to',
      ),
    }),
    delete: verb(remove, { ...TOKEN_OPTIONS, ...optionsOf('kid', 'id', 'yes') }),
    ...bringInVerbs(opening),
    ...blockVerbs(opening),
  })
}
