/**
 * Usage and PKCS#11 attributes as a matrix: with which role bits `openKeyStore` makes a key, which others it may have, and which
 * make it too wide. The cells are what `newKeyBits` and `roleOf` answer; the last row is the table by which every key is judged.
 */
import { KEY_RULES } from '../../src/backend/pkcs11/keys/key-checks.js'
import { macsOf, newKeyBits, pairBits, roleOf } from '../../src/backend/pkcs11/keys/roles.js'
import type { Plan } from '../../src/backend/pkcs11/mechanisms/plan.js'
import { ROLE_BITS, type RoleBit } from '../../src/backend/pkcs11/mechanisms/templates.js'
import { type KeyUsage, USAGES, usualMode } from '../../src/key/usage.js'
import type { KeyAlgorithm } from '../../src/primitives/algorithms.js'
import { box, drawing, label } from './kit.js'

/** A token like SoftHSM with `composedMac`: CMAC and HMAC are mechanisms, the retail MAC is two CBC calls, nothing is re-enciphered inside. */
const no = { ok: false, reason: 'not by this token' } as const
const yes = { ok: true, by: true } as const
const bySign = { ok: true, by: { way: 'sign', mechanism: { mechanism: 0 } } } as const
const TYPICAL: Plan = {
  tdea: { ok: true, by: { twoKeyType: 0 } },
  aes: yes,
  cbcMac: { ok: true, by: { way: 'cbc', plan: 'composed' } },
  retailMac: { ok: true, by: { way: 'cbc', plan: 'composed' } },
  cmacTdea: bySign,
  cmacAes: bySign,
  hmac: { ok: true, by: { mechanism: 0 } },
  keyAgreement: { ok: true, by: 'token-extract' },
  signing: yes,
  translation: no,
  derivation: { tdea: no, aes: no },
  rights: {
    copyWidens: false,
    copyOfUncopyableWidens: false,
    modifyWidens: false,
    wrapsOut: false,
    statesAnyCheckValue: false,
  },
  refused: [],
  publicKeysPrivate: false,
  hidesDates: false,
  random: yes,
  trusts: false,
  notes: [],
}

type Cell = 'made' | 'may' | 'wide'

/** The algorithm that is shown for a usage: the one with which it is met in practice. */
function algorithmOf(usage: KeyUsage): KeyAlgorithm {
  const [first = 'aes-256'] = USAGES[usage].algorithms
  return usage === 'key-block-protection' ? 'aes-256' : first
}

function cellsOf(usage: KeyUsage): ReadonlyMap<RoleBit, Cell> {
  const algorithm = algorithmOf(usage)
  const mode = usualMode(usage)
  const { needs, allows } = roleOf(TYPICAL, usage, mode, algorithm)
  const purpose = { usage, mode, algorithm, macs: macsOf(usage, algorithm).slice(0, 1) }
  const made =
    algorithm === 'ec-p256'
      ? pairBits(usage).private
      : newKeyBits(TYPICAL, {
          ...purpose,
          hostDecipher: false,
          translation: false,
          derives: false,
          enciphers: false,
        })
  const cell = (bit: RoleBit): Cell =>
    made.includes(bit) ? 'made' : needs.includes(bit) || allows.includes(bit) ? 'may' : 'wide'
  return new Map(ROLE_BITS.map(bit => [bit, cell(bit)]))
}

const ROW = 38
const FIRST = 322
const COLUMN = 84
const TOP = 122

/** The drawing. */
export function usageAttributes(): string {
  const usages = Object.keys(USAGES) as KeyUsage[]
  const rows = usages.map(usage => ({ usage, cells: cellsOf(usage) }))
  // The two recovering bits are for no usage: one column says it for both.
  const bits = ROLE_BITS.filter(bit => !bit.endsWith('_RECOVER'))
  const width = FIRST + bits.length * COLUMN + 20
  const parts = [
    label({ x: 24, y: 34, text: 'Which CKA_… a key has, by its usage', classes: 'h' }),
    label({
      x: 24,
      y: 56,
      text: 'For a token like SoftHSM with composedMac. “made”: as openKeyStore makes it. “may”: accepted when it is bound.',
      classes: 'm',
    }),
    label({
      x: 24,
      y: 74,
      text: 'Empty: too wide, ERR_KEY_USAGE. So is CKA_SIGN_RECOVER and CKA_VERIFY_RECOVER, for every usage.',
      classes: 'm',
    }),
    ...bits.map((bit, i) =>
      label({ x: FIRST + (i + 0.5) * COLUMN, y: TOP - 16, text: bit, classes: 'mid c s' }),
    ),
  ]
  rows.forEach(({ usage, cells }, row) => {
    const y = TOP + row * ROW
    parts.push(`<path class="rule" d="M24 ${y - 5}H${width - 20}"/>`)
    parts.push(
      label({ x: 24, y: y + 18, text: usage }),
      label({ x: 196, y: y + 18, text: algorithmOf(usage), classes: 'c m' }),
    )
    bits.forEach((bit, i) => {
      const cell = cells.get(bit)
      if (cell === 'wide' || cell === undefined) return
      const x = FIRST + i * COLUMN + 5
      const kind = cell === 'made' ? 'key' : 'open'
      parts.push(box({ x, y, width: COLUMN - 10, height: 27, kind, text: cell, classes: 's' }))
    })
  })
  const below = TOP + rows.length * ROW + 22
  parts.push(label({ x: 24, y: below, text: 'And every key, whatever its usage', classes: 'h' }))
  KEY_RULES.forEach(({ attribute, must, danger, accept }, i) => {
    const y = below + 26 + i * 24
    parts.push(
      label({ x: 24, y, text: `CKA_${attribute}`, classes: 'c' }),
      label({ x: 196, y, text: String(must), classes: 'c tok' }),
      label({
        x: 258,
        y,
        text: `or ${danger}${accept === undefined ? '' : ` (accept: ['${accept}'])`}`,
        classes: 'm',
      }),
    )
  })
  return drawing({
    width,
    height: below + 26 + KEY_RULES.length * 24,
    title: 'Usage and PKCS#11 attributes',
    description: rows
      .map(({ usage, cells }) => {
        const of = (cell: Cell): string => bits.filter(bit => cells.get(bit) === cell).join(', ') || 'none'
        return `${usage}: made with ${of('made')}; may have ${of('may')}`
      })
      .join('. '),
    parts,
  })
}
