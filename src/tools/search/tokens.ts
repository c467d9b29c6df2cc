/** What the search puts together: each value in the forms it may have. A value in one form is a token. */
import { ownMembers } from '../../base/arguments.js'
import {
  type ComputationInput,
  isConstant,
  meaningOf,
  type PinForm,
  type SeccosProfile,
  type ValueForm,
} from '../../seccos/profile/profile.js'
import type { ProfileSample } from '../check-profile.js'

/** An input of which nothing is known but that it is there, or which value it is in some form. */
export interface UnknownInput {
  readonly input: 'unknown'
  /** `pan`, `pinBlock`, `pinLength`, `pcc`, `intdatag`, `dataSet`, `prw` …, or the id of a field or an external value. */
  readonly value?: string
}

/** One value in one form. `rank` 1: among those that are tried first; 2: where documents list it; 3: rare. */
export interface Token {
  readonly kind: string
  readonly input: ComputationInput
  readonly rank: 1 | 2 | 3
}

const EXACT = { align: 'exact' } as const
const left = (pad: string) => ({ align: 'left', pad }) as const
const right = (pad: string) => ({ align: 'right', pad }) as const

/** Forms of text of at most so many characters, the likeliest first. */
function textForms(characters: number, exact: boolean): ValueForm[] {
  const packed = Math.ceil(characters / 2)
  const bare: ValueForm[] = exact
    ? [
        ...(characters % 2 === 0 ? [{ length: packed, encoding: 'bcd', ...EXACT } as const] : []),
        { length: characters, encoding: 'ascii', ...EXACT },
        { length: characters, encoding: 'ebcdic', ...EXACT },
      ]
    : []
  return [
    ...bare,
    { length: packed, encoding: 'bcd', ...left('F') },
    { length: packed, encoding: 'bcd', ...right('0') },
    { length: packed, encoding: 'bcd', ...left('0') },
    { length: characters, encoding: 'ascii', ...left('20') },
    { length: characters, encoding: 'ascii', ...right('30') },
    { length: characters, encoding: 'ascii', ...left('00') },
    { length: characters, encoding: 'ebcdic', ...left('40') },
    { length: characters, encoding: 'ebcdic', ...right('F0') },
  ]
}

function panTokens(lengths: ReadonlySet<number>): Token[] {
  const [only, ...others] = lengths
  const exact = only !== undefined && others.length === 0 ? textForms(only, true).slice(0, 3) : []
  // A field for 19 digits: ten bytes packed, nineteen otherwise. EMV and others take the digits as they are.
  const whole = [...exact, ...textForms(19, false)]
  const parts = [
    { part: { from: 'right', skip: 1, take: 12 }, characters: 12 },
    { part: { from: 'right', skip: 0, take: 16 }, characters: 16 },
    { part: { from: 'right', skip: 0, take: 14 }, characters: 14 },
    { part: { from: 'left', skip: 6 }, characters: 13 },
    { part: { from: 'left', skip: 8 }, characters: 11 },
    { part: { from: 'right', skip: 1 }, characters: 18 },
  ] as const
  return [
    ...whole.map(form => ({ kind: 'pan', input: { input: 'pan', ...form }, rank: 1 }) as const),
    ...parts.flatMap(({ part, characters }) =>
      textForms(characters, false).map(
        form => ({ kind: 'pan', input: { input: 'pan', ...form, part }, rank: 3 }) as const,
      ),
    ),
  ]
}

const HEX = '0123456789ABCDEF'.split('')
const COMMON_PINS: readonly PinForm[] = [
  'digits-bcd',
  'iso9564-format-0',
  'iso9564-format-2',
  'digits-ascii',
  { digits: 'bcd', length: 6, align: 'left', pad: 'F' },
  { digits: 'bcd', length: 6, align: 'right', pad: '0' },
  { digits: 'ascii', length: 12, align: 'left', pad: '20' },
  { digits: 'ebcdic', length: 12, align: 'left', pad: '40' },
  { digits: 'ebcdic', length: 12, align: 'right', pad: 'F0' },
  { iso9564: 4, filler: 'A' },
]

function pinForms({ randomBytes, pinBlock }: SeccosProfile): readonly { form: PinForm; rank: 1 | 3 }[] {
  const rare: PinForm[] = [
    ...HEX.slice(10).map(filler => ({ iso9564: 3, filler }) as const),
    ...HEX.map(filler => ({ iso9564: 1, filler }) as const),
    ...(randomBytes >= 8 ? ([1, 4] as const).map(iso9564 => ({ iso9564, filler: 'random' }) as const) : []),
    { digits: 'ascii', length: 12, align: 'right', pad: '30' },
    { digits: 'bcd', length: 8, align: 'right', pad: '0' },
    { digits: 'bcd', length: 8, align: 'left', pad: '0' },
  ]
  return [
    ...COMMON_PINS.map(form => ({ form, rank: 1 }) as const),
    ...(isOneOf(pinBlock, [...COMMON_PINS, ...rare]) ? [] : [{ form: pinBlock, rank: 1 } as const]),
    ...rare.map(form => ({ form, rank: 3 }) as const),
  ]
}

function isOneOf(form: PinForm, forms: readonly PinForm[]): boolean {
  return forms.some(one => JSON.stringify(one) === JSON.stringify(form))
}

/** How long the values of the samples are. */
interface Lengths {
  readonly panLengths: ReadonlySet<number>
  readonly externalLengths: ReadonlyMap<string, number>
}

function lengthsOf(samples: readonly ProfileSample[]): Lengths {
  const externalLengths = new Map<string, number>()
  for (const { fields } of samples) {
    for (const [id, value] of Object.entries(fields ?? {})) {
      externalLengths.set(id, Math.max(value.length, externalLengths.get(id) ?? 0))
    }
  }
  return { panLengths: new Set(samples.map(({ pan }) => pan.length)), externalLengths }
}

/** Every token of a layout, for the PRW or for the MAC. */
export function tokensOf(
  profile: SeccosProfile,
  which: 'prw' | 'mac',
  samples: readonly ProfileSample[],
): Token[] {
  const { panLengths, externalLengths } = lengthsOf(samples)
  const token = (kind: string, input: ComputationInput, rank: Token['rank'] = 1): Token => ({
    kind,
    input,
    rank,
  })
  /** What no sample lacks. */
  const given = (name: 'random' | 'prwKid' | 'macKid' | 'issuerId'): boolean =>
    samples.every(({ [name]: value }) => value !== undefined)
  const values: readonly [string, number, ValueForm[]][] = [
    [
      'pcc',
      4,
      [
        { length: 2, encoding: 'binary', ...EXACT },
        { length: 4, encoding: 'binary', ...EXACT },
      ],
    ],
    ['intdatag', 20, [{ length: 20, encoding: 'ebcdic-273', ...EXACT }]],
  ]
  const starts = [...new Set(profile.fields.map(({ offset }) => offset))].filter(offset => offset > 0)
  const full = profile.fields.some(field => !isConstant(field) && field.masked !== false)
  const tokens: Token[] = [
    token('dataSet', { input: 'dataSet.masked' }),
    ...(full && (which === 'prw' || !holdsPin(profile)) ? [token('dataSet', { input: 'dataSet.full' })] : []),
    ...panTokens(panLengths),
    ...values.flatMap(([name, characters, more]) =>
      [...textForms(characters, true).slice(0, 3), ...more].map((form, i) =>
        token(name, { input: name as 'pcc', ...form }, i < 3 ? 1 : 3),
      ),
    ),
    ...(profile.randomBytes > 0 && given('random') ? [token('random', { input: 'random' })] : []),
    ...profile.fields.flatMap(field => {
      const meaning = isConstant(field) ? 'pan' : meaningOf(profile, field)
      return meaning === undefined && !/^unknown\d+$/.test(field.id)
        ? [token(field.id, { input: 'field', id: field.id })]
        : []
    }),
    ...(profile.external ?? []).flatMap(({ id, kind }) => {
      const length = externalLengths.get(id) ?? 1
      const forms: readonly ValueForm[] =
        kind === 'bytes' ? [{ length, encoding: 'binary', ...EXACT }] : textForms(length, true).slice(0, 3)
      return forms.map(form => token(id, { input: 'external', id, ...form }))
    }),
    ...starts.map(skip => token('dataSet', { input: 'dataSet.masked', part: { from: 'left', skip } }, 3)),
    ...(['prwKid', 'macKid'] as const)
      .filter(name => (which === 'mac' || name === 'prwKid') && given(name))
      .flatMap(name =>
        [16, 20, 32].flatMap(length =>
          textForms(length, false)
            .filter(({ encoding }) => encoding !== 'bcd')
            .map(form => token(name, { input: name, ...form }, 2)),
        ),
      ),
    ...(given('issuerId') ? (['ascii', 'ebcdic'] as const) : []).map(encoding =>
      token('issuerId', { input: 'issuerId', length: 10, encoding, ...EXACT }, 2),
    ),
  ]
  return ownMembers([...tokens, ...(which === 'prw' ? pinTokens(profile) : prwTokens())])
}

/** Whether a field holds the PIN, or its length. */
export function holdsPin(profile: SeccosProfile): boolean {
  return profile.fields.some(
    field => !isConstant(field) && ['pinBlock', 'pinLength'].includes(meaningOf(profile, field) ?? ''),
  )
}

function pinTokens(profile: SeccosProfile): Token[] {
  const lengths: ValueForm[] = [
    { length: 1, encoding: 'binary', ...EXACT },
    { length: 1, encoding: 'bcd', ...right('0') },
    { length: 2, encoding: 'ascii', ...right('30') },
    { length: 2, encoding: 'ebcdic', ...right('F0') },
  ]
  const pins = pinForms(profile)
  return [
    ...pins.map(({ form, rank }): Token => {
      return { kind: 'pinBlock', input: { input: 'pinBlock', pinForm: form }, rank }
    }),
    ...lengths.map((form): Token => ({ kind: 'pinLength', input: { input: 'pinLength', ...form }, rank: 1 })),
    ...pins
      .filter(({ rank }) => rank === 1)
      .map(
        ({ form }): Token => ({
          kind: 'pinBlock',
          input: {
            input: 'enciphered',
            mode: 'ecb',
            iv: 'none',
            padding: 1,
            inputs: [{ input: 'pinBlock', pinForm: form }],
          },
          rank: 3,
        }),
      ),
  ]
}

function prwTokens(): Token[] {
  const parts = [
    { from: 'left', skip: 0, take: 8 },
    { from: 'left', skip: 0, take: 4 },
    { from: 'right', skip: 0, take: 8 },
    { from: 'left', skip: 4, take: 8 },
    { from: 'right', skip: 0, take: 4 },
  ] as const
  const forms = ['binary', 'text', 'text-ebcdic'] as const
  return [
    ...forms.map((form): Token => ({ kind: 'prw', input: { input: 'prw', form }, rank: 1 })),
    ...parts.map((part): Token => ({ kind: 'prw', input: { input: 'prw', form: 'binary', part }, rank: 3 })),
  ]
}
