/**
 * Secrets that are planted, and every spelling under which they might come out again: text, hex, base64 at each
 * alignment, lists of numbers, escapes. All are long enough not to turn up by accident.
 */

/** What is planted, by a name that may be shown. */
export type Canaries = ReadonlyMap<string, readonly string[]>

/** Spellings of bytes. The haystack is searched as it is and in lower case, so hex stands here in lower case. */
export function spellingsOfBytes(secret: Uint8Array): string[] {
  const buffer = Buffer.from(secret)
  const pairs = buffer.toString('hex').match(/../g) ?? []
  return [
    pairs.join(''),
    pairs.join(' '),
    pairs.join(':'),
    pairs.map(pair => `%${pair}`).join(''),
    [...buffer].join(','),
    [...buffer].join(', '),
    buffer.toString('latin1'),
    JSON.stringify(buffer.toString('latin1')).slice(1, -1),
    ...base64At(buffer),
  ]
}

/** Spellings of a text: as it is, and as its bytes; of digits, also as the numbers they are. */
export function spellingsOfText(secret: string): string[] {
  const digits = /^\d+$/.test(secret) ? [[...secret].join(','), [...secret].join(', ')] : []
  return [
    secret,
    secret.toLowerCase(),
    encodeURIComponent(secret),
    ...digits,
    ...spellingsOfBytes(Buffer.from(secret)),
  ]
}

/** What of a secret stays recognisable in base64 when something of unknown length stands before and behind it. */
function base64At(secret: Buffer): string[] {
  return [0, 1, 2].flatMap(before => {
    const shifted = Buffer.concat([Buffer.alloc(before), secret])
    const whole = shifted.subarray(0, shifted.length - (shifted.length % 3)).toString('base64')
    const inner = before === 0 ? whole : whole.slice(4)
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')]
  })
}

/** Shorter spellings would be found in innocent text. */
const SHORTEST = 7

/** The canaries of named texts and bytes. */
export function canariesOf(secrets: Readonly<Record<string, string | Uint8Array>>): Canaries {
  return new Map(
    Object.entries(secrets).map(([name, secret]) => {
      const all = typeof secret === 'string' ? spellingsOfText(secret) : spellingsOfBytes(secret)
      return [name, [...new Set(all)].filter(form => form.length >= SHORTEST)]
    }),
  )
}

/** Which forms are looked for in a text as it is, and which in lower case, where those without capitals are found as well. */
interface Forms {
  readonly name: string
  readonly asIs: readonly string[]
  readonly lower: readonly string[]
}

/** Also the texts that were found to hold none: thousands of calls end in the same few errors. */
const prepared = new WeakMap<Canaries, { readonly forms: readonly Forms[]; readonly innocent: Set<string> }>()

function prepare(canaries: Canaries) {
  const before = prepared.get(canaries)
  if (before !== undefined) return before
  const isLower = (form: string): boolean => form === form.toLowerCase()
  const forms = [...canaries].map(([name, all]) => ({
    name,
    asIs: all.filter(form => !isLower(form)),
    lower: all.filter(isLower),
  }))
  const now = { forms, innocent: new Set<string>() }
  prepared.set(canaries, now)
  return now
}

/** A longer text is not kept. */
const KEPT = 10_000

/** The names of the canaries that a text holds, those apart that it is meant to hold. */
export function found(text: string, canaries: Canaries, meant: readonly string[] = []): string[] {
  const { forms, innocent } = prepare(canaries)
  if (innocent.has(text)) return []
  const inLower = text.toLowerCase()
  const names = forms
    .filter(
      ({ asIs, lower }) =>
        asIs.some(form => text.includes(form)) || lower.some(form => inLower.includes(form)),
    )
    .map(({ name }) => name)
  if (names.length === 0 && text.length <= KEPT) innocent.add(text)
  return names.filter(name => !meant.includes(name))
}
