/**
 * The readings next to a profile: each differs in one entry, and says in words which. What a document leaves open, or what
 * is easily read the wrong way: padding, alignment, order, end, case.
 */
import { PIN_FORM_NAMES } from '../seccos/profile/forms.js'
import {
  ALGORITHMS,
  type Computation,
  type ComputationInput,
  isConstant,
  type ProfileAlgorithm,
  type SeccosProfile,
  type TextForm,
  type ValueForm,
} from '../seccos/profile/profile.js'

/** A profile with one entry changed. */
export interface Reading {
  readonly says: string
  readonly json: SeccosProfile
}

/** All readings that differ in one entry from a profile's PRW, or its MAC. */
export function readingsOf(profile: SeccosProfile, which: 'prw' | 'mac'): Reading[] {
  const reading = (says: string, computation: Computation): Reading => ({
    says,
    json: { ...profile, profileFormat: 2, [which]: computation },
  })
  return [
    ...algorithms(profile[which]).map(([says, change]) => reading(says, change)),
    ...outputs(profile[which]).map(([says, change]) => reading(says, change)),
    ...inputLists(profile[which].inputs).map(([says, inputs]) =>
      reading(says, { ...profile[which], inputs }),
    ),
    ...(which === 'prw' ? pinForms(profile) : []),
    ...panFields(profile),
  ]
}

type Change<T> = readonly [says: string, change: T]

function algorithms(computation: Computation): Change<Computation>[] {
  const { algorithm, padding, iv } = computation
  const { cipher, blockBytes, macUsage } = ALGORITHMS[algorithm]
  const zero = '00'.repeat(blockBytes)
  const changes: Change<Computation>[] = []
  for (const name of Object.keys(ALGORITHMS) as ProfileAlgorithm[]) {
    const rule = ALGORITHMS[name]
    if (rule.cipher !== cipher || (rule.macUsage === undefined) !== (macUsage === undefined)) continue
    for (const other of rule.paddings) {
      if (name === algorithm && other === padding) continue
      const says =
        name === algorithm ? `padding ${other} in place of ${padding}` : `${name}, padding ${other}`
      const sameIv = rule.hasIv === ALGORITHMS[algorithm].hasIv
      changes.push([
        says,
        { ...computation, algorithm: name, padding: other, iv: sameIv ? iv : rule.hasIv ? zero : 'none' },
      ])
    }
  }
  if (iv !== zero && iv !== 'none') changes.push(['a zero IV', { ...computation, iv: zero }])
  const { digest: current, ...plain } = computation
  if (current !== undefined) changes.push(['no digest before', plain])
  for (const digest of ['sha-1', 'sha-256'] as const) {
    if (digest !== current) changes.push([`${digest} before`, { ...computation, digest }])
  }
  return changes
}

const TEXTS: readonly TextForm[] = ['hex-upper', 'hex-lower', 'base64', 'base64url', 'hex-ebcdic']

function outputs(computation: Computation): Change<Computation>[] {
  const { text, output, outputBytes } = computation
  const texts = TEXTS.filter(other => other !== text).map(
    other => [`text ${other}`, { ...computation, text: other }] as const,
  )
  if (output !== undefined) return texts
  const part = { from: 'right', skip: 0, take: outputBytes } as const
  return [
    ...texts,
    ['the rightmost bytes in place of the leftmost', { ...computation, output: [{ step: 'slice', part }] }],
  ]
}

/** The list with one input left out, two neighbours exchanged, or one in another form. */
function inputLists(inputs: readonly ComputationInput[]): Change<readonly ComputationInput[]>[] {
  return inputs.flatMap((part, i): Change<readonly ComputationInput[]>[] => {
    const where = `inputs/${i} (${'id' in part ? part.id : part.input})`
    const next = inputs[i + 1]
    return [
      [`without ${where}`, inputs.toSpliced(i, 1)],
      ...(next === undefined
        ? []
        : ([[`${where} and the one after it exchanged`, inputs.toSpliced(i, 2, next, part)]] as const)),
      ...forms(part).map(([says, other]) => [`${where} ${says}`, inputs.with(i, other)] as const),
    ]
  })
}

function forms(part: ComputationInput): Change<ComputationInput>[] {
  if (part.input === 'dataSet.full') return [['masked', { ...part, input: 'dataSet.masked' }]]
  if (part.input === 'dataSet.masked') return [['in full', { ...part, input: 'dataSet.full' }]]
  if (part.input === 'prw') {
    const others = (['binary', 'text', 'text-ebcdic'] as const).filter(form => form !== part.form)
    return others.map(form => [`as ${form}`, { ...part, form }] as const)
  }
  if (!('encoding' in part)) return []
  return places(part).map(([says, form]) => [says, { ...part, ...form }] as const)
}

const CHARACTERS: Readonly<Record<string, number>> = { pan: 19, pcc: 4, intdatag: 20, issuerId: 10 }

/** Other places for a value: aligned otherwise, encoded otherwise; the pad that is usual there. */
function places(form: ValueForm & { readonly input: string }): Change<ValueForm>[] {
  const units = CHARACTERS[form.input] ?? (form.encoding === 'bcd' ? 2 * form.length : form.length)
  const { pad: _pad, ...plain } = form
  return (['bcd', 'ascii', 'ebcdic'] as const).flatMap(encoding => {
    const length =
      encoding === form.encoding ? form.length : encoding === 'bcd' ? Math.ceil(units / 2) : units
    const zero = { bcd: '0', ascii: '30', ebcdic: 'F0' }[encoding]
    const blank = { bcd: 'F', ascii: '20', ebcdic: '40' }[encoding]
    const as = encoding === form.encoding ? '' : ` as ${encoding}`
    const all: Change<ValueForm>[] = [
      [`left-aligned${as}, filled with ${blank}`, { ...plain, encoding, length, align: 'left', pad: blank }],
      [`right-aligned${as}, filled with ${zero}`, { ...plain, encoding, length, align: 'right', pad: zero }],
      [
        `right-aligned${as}, filled with ${blank}`,
        { ...plain, encoding, length, align: 'right', pad: blank },
      ],
    ]
    return form.align === 'exact'
      ? [...all, [`exactly${as}`, { ...plain, encoding, length, align: 'exact' }]]
      : all
  })
}

function pinForms(profile: SeccosProfile): Reading[] {
  const names = PIN_FORM_NAMES.filter(form => form !== profile.pinBlock)
  return names.map(form => {
    const inData = profile.fields.some(field => field.id === 'pinBlock')
    return {
      says: `the PIN as ${form}${inData ? ' (where its field is as long)' : ''}`,
      json: { ...profile, pinBlock: form },
    }
  })
}

/** The PAN in the full data set, aligned otherwise. */
function panFields(profile: SeccosProfile): Reading[] {
  return profile.fields.flatMap((field, i) => {
    if (field.id !== 'pan' || isConstant(field)) return []
    return places({ ...field, input: 'pan' })
      .filter(([, form]) => form.encoding === field.encoding)
      .map(([says, { align, pad }]) => {
        const { pad: _pad, ...rest } = field
        const other = { ...rest, align, ...(pad !== undefined && { pad }) }
        return {
          says: `the PAN in its field ${says}`,
          json: { ...profile, fields: profile.fields.with(i, other) },
        }
      })
  })
}
