import type { CallOptions } from '../backend/backend.js'
import { ArgumentError } from '../errors.js'
import type { ChangeCounter } from '../seccos/change-counter.js'

/** The body of a Get PIN Change Counter response: four digits, and 20 characters. */
export interface ChangeCounterMessage {
  readonly pcc: string
  readonly intdatag: string
}

/**
 * The body of a Get PIN Change Counter response: the card's PCC with a fresh intdatag, to be accepted once.
 *
 * Errors: as {@link ChangeCounter.issue}: `ERR_CHANGE_COUNTER`, `ERR_ARGUMENT`, `ERR_ABORTED`. Source: Outbound PIN Management API 1.0, getPINChangeCounter.
 *
 * @example
 * ```ts
 * response.end(JSON.stringify(await changeCounterResponse({ counter, cardId })))
 * ```
 */
export async function changeCounterResponse(
  input: { readonly counter: ChangeCounter; readonly cardId: string },
  options?: CallOptions,
): Promise<ChangeCounterMessage> {
  if (typeof input?.counter?.issue !== 'function') throw new ArgumentError('counter must be a ChangeCounter')
  const { pcc, intdatag } = await input.counter.issue(input.cardId, options)
  return { pcc, intdatag }
}
