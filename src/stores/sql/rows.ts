/** Cards and PRWs as they stand in rows. What does not read was written by something else: `ERR_BACKEND_FAILED`. */
import { fromHex, snapshot, toHex } from '../../base/bytes.js'
import { BackendError } from '../../base/errors.js'
import type { Card, CardRef, StoredPinBlock, StoredPrw } from '../../d1/endpoints/interfaces.js'
import type { PanSealer } from '../pan-sealer.js'
import { readCard, readPinBlock, readPrw } from '../records.js'
import type { SqlRow } from './database.js'

type Seccos = NonNullable<Card['seccos']>

/** `fields` apart, JSON as it is: a field that is text stands as text, one that is bytes as `{ "hex": "…" }`. */
export function showSeccos(seccos: Seccos | undefined): string | null {
  if (seccos === undefined) return null
  const { fields, ...rest } = seccos
  if (fields === undefined) return JSON.stringify(rest)
  const entries = Object.entries(fields).map(([id, value]) => [
    id,
    typeof value === 'string' ? value : { hex: toHex(value) },
  ])
  return JSON.stringify({ ...rest, fields: Object.fromEntries(entries) })
}

function parseSeccos(text: string): Seccos {
  const { fields, ...rest } = JSON.parse(text)
  if (fields === undefined) return rest
  const entries = Object.entries<string | { hex: string }>(fields).map(([id, value]) => [
    id,
    typeof value === 'string' ? value : fromHex(value.hex, 'a field'),
  ])
  return { ...rest, fields: Object.fromEntries(entries) }
}

/** The card of a row. The errors of the sealer come through as they are. */
export async function cardOf(row: SqlRow, ref: CardRef, sealer: PanSealer): Promise<Card> {
  const { state, set_pin_types: types, seccos, revision } = row
  const sealed = readable(() => snapshot(row['pan'], 'pan'))
  const pan = await sealer.open(sealed, ref)
  return readable(() => ({
    ...readCard({
      state: state as Card['state'],
      pan,
      setPinTypes: JSON.parse(String(types)),
      ...(seccos !== null && { seccos: parseSeccos(String(seccos)) }),
    }),
    revision: String(revision),
  }))
}

/** The block of a row. */
export function blockOf({ block, kid }: SqlRow): StoredPinBlock {
  return readable(() => readPinBlock({ block, kid } as unknown as StoredPinBlock))
}

/** The PRW of a row. */
export function prwOf({ prw }: SqlRow): StoredPrw {
  return readable(() => readPrw(JSON.parse(String(prw))))
}

function readable<T>(read: () => T): T {
  try {
    return read()
  } catch {
    // No cause: what was read may be in its message.
    throw new BackendError('ERR_BACKEND_FAILED', 'a record of the store does not read')
  }
}
