/** What a case is, and the forms that most of them have. */
import { COUNTER_CODES, type Operation, requireContract } from './contract.js'
import { Mismatch, NoAnswer } from './problems.js'
import type { Reply } from './wire.js'
import type { World } from './world.js'

/** The groups, in the order in which they are run. */
export const GROUPS = [
  'connection',
  'token',
  'authorization',
  'callers',
  'paths',
  'http',
  'get-pin',
  'set-pin-iso0',
  'messages',
  'tolerance',
  'change-counter',
  'set-pin-seccos',
  'uniform',
  'slow',
] as const

export type Group = (typeof GROUPS)[number]

/** One thing that is tried. */
export interface Case {
  readonly group: Group
  readonly name: string
  /** In words, for the table. */
  readonly expected: string
  /** What came, in words. Throws `Mismatch` where that is not what is expected, `NotRun` where it cannot be tried. */
  readonly run: (world: World) => Promise<string>
}

/** Statuses that stand for «this message is wrong», and for a path that is none. */
export const BAD: readonly number[] = [400]
export const NOWHERE: readonly number[] = [400, 404]

/** A case whose request must be refused with one of some statuses, as the contract has it for the operation. */
export function refusal(
  group: Group,
  name: string,
  rule: { readonly statuses: readonly number[]; readonly operation: Operation },
  send: (world: World) => Promise<Reply>,
): Case {
  const { statuses, operation } = rule
  return {
    group,
    name,
    expected: statuses.join(' or '),
    run: async world => {
      const reply = await send(world)
      requireRefusal(world, reply, statuses)
      const { errorCode } = requireContract(operation, reply)
      // A code of the contract, or nothing: what else an issuer says is not for this table.
      return COUNTER_CODES.includes(errorCode) ? `${reply.status} ${errorCode}` : String(reply.status)
    },
  }
}

/**
 * A case that is outside the contract: it must be refused with one of some statuses, or by closing the connection; the
 * contract's bodies do not apply. A TLS alert is a closed connection, too.
 */
export function outside(
  group: Group,
  name: string,
  { statuses, closed }: { readonly statuses: readonly number[]; readonly closed: boolean },
  send: (world: World) => Promise<Reply>,
): Case {
  return {
    group,
    name,
    expected: [...statuses, ...(closed ? ['closed'] : [])].join(' or '),
    run: async world => {
      try {
        const reply = await send(world)
        requireRefusal(world, reply, statuses)
        return String(reply.status)
      } catch (error) {
        if (!(error instanceof NoAnswer) || !closed || !isRefusal(error)) throw error
        return `closed (${error.reason})`
      }
    },
  }
}

/** Nobody listens, or nobody answers: that is no refusal. */
function isRefusal({ reason }: NoAnswer): boolean {
  return !['TIMEOUT', 'ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'EAI_AGAIN'].includes(reason)
}

/** The answer has one of these statuses, and shows nothing that it must not. */
export function requireRefusal(world: World, reply: Reply, statuses: readonly number[]): void {
  if (!statuses.includes(reply.status)) throw new Mismatch(String(reply.status))
  world.requireSilence(reply)
  if ('x-injected' in reply.headers) {
    throw new Mismatch(`${reply.status} with a header that the request has put there`)
  }
}
