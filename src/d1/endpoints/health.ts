/**
 * `/livez` and `/readyz`, for whoever starts and stops the service. Alive: the process answers. Ready: everything that is
 * named answers in time. Put them on a port of their own, or on paths that D1 does not reach.
 */

import { type CallOptions, readOptions } from '../../base/arguments.js'
import { secretBytes, utf8Bytes, wipe } from '../../base/bytes.js'
import { type Clock, Ending, systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import { ArgumentError, isIssuerPinError } from '../../base/errors.js'
import { openJwe } from '../../jwe/open.js'
import { sealJwe } from '../../jwe/seal.js'
import { USAGES } from '../../key/usage.js'
import { verifyMac } from '../../mac/mac.js'
import { encipherPin } from '../../pin/encipher.js'
import { FORMATS } from '../../pin/formats/formats.js'
import { usualFormat } from '../../pin/policy.js'
import { MAC_PADDINGS } from '../../primitives/algorithms.js'
import { macBytes } from '../../primitives/mac.js'
import { Pan } from '../../primitives/pan.js'
import { Pin } from '../../primitives/pin.js'
import { moveBlock } from '../messages/set-pin.js'
import type { EndpointHandler } from './endpoints.js'
import { type Issuer, type IssuerEndpointsOptions, readIssuers, readTimeout } from './options.js'
import { withDeadline } from './refusal.js'

/** Something that must answer: rejects where it does not. */
export type ReadinessCheck = (options: { readonly signal: AbortSignal }) => Promise<unknown>

/** Options of {@link healthEndpoints}. */
export interface HealthOptions {
  /** By names that are shown; see {@link readinessChecks}. */
  readonly checks: Readonly<Record<string, ReadinessCheck>>
  /** `/livez` where absent. */
  readonly livePath?: string
  /** `/readyz` where absent. */
  readonly readyPath?: string
  /** Milliseconds for all checks together: 2000 where absent. */
  readonly timeoutMs?: number
  readonly clock?: Clock
}

const NAMES = ['checks', 'livePath', 'readyPath', 'timeoutMs', 'clock'] as const
const PATH = /^\/[A-Za-z0-9/._~-]*$/
const CHECK_NAME = /^[A-Za-z0-9._~:/-]{1,80}$/

/**
 * Makes the handler for GET `/livez` (200 always) and GET `/readyz`: 200 where every check resolves in time, else 503;
 * `{ ready, checks: { name: true | false } }`, and no reason: those are in your log. Requests for it while checks are
 * under way share their result. It asks for no caller.
 *
 * Errors: `ERR_ARGUMENT`. The handler never rejects.
 *
 * @example
 * ```ts
 * const health = healthEndpoints({ checks: { vault: readFromVault } })
 * const listener = nodeListener(health)
 * ```
 */
export function healthEndpoints(given: HealthOptions): EndpointHandler {
  const options = readOptions(given, 'healthEndpoints', NAMES)
  const { checks, livePath = '/livez', readyPath = '/readyz', clock = systemClock } = options
  const milliseconds = readTimeout(options.timeoutMs ?? DEFAULTS.endpoints.healthTimeoutMs.value, 'timeoutMs')
  for (const path of [livePath, readyPath]) {
    if (typeof path !== 'string' || !PATH.test(path)) {
      throw new ArgumentError('livePath and readyPath must be paths')
    }
  }
  if (livePath === readyPath) throw new ArgumentError('livePath and readyPath must be two paths')
  const list = readChecks(checks)
  let running: Promise<Readonly<Record<string, boolean>>> | undefined

  async function verdict(): Promise<Readonly<Record<string, boolean>>> {
    const parent = new Ending()
    const results = list.map(async ([name, check]): Promise<[string, boolean]> => {
      try {
        const work = async ({ signal }: Ending) => void (await check({ signal }))
        await withDeadline({ clock, milliseconds, reason: 'timeout', parent }, work)
        return [name, true]
      } catch {
        return [name, false]
      }
    })
    return Object.fromEntries(await Promise.all(results))
  }

  async function answer({ method, url }: Request): Promise<Response> {
    const { pathname } = new URL(url)
    if (method !== 'GET' && method !== 'HEAD') return shown(400, { error: 'Bad request' })
    if (pathname === livePath) return shown(200, { alive: true })
    if (pathname !== readyPath) return shown(404, { error: 'Not found' })
    running ??= verdict().finally(() => {
      running = undefined
    })
    const found = await running
    const ready = Object.values(found).every(Boolean)
    return shown(ready ? 200 : 503, { ready, checks: found })
  }

  return Object.assign(answer, { takes: (path: string) => path === livePath || path === readyPath })
}

function readChecks(checks: HealthOptions['checks']): readonly [string, ReadinessCheck][] {
  const list = typeof checks === 'object' && checks !== null ? Object.entries(checks) : []
  if (
    list.length === 0 ||
    list.some(([name, check]) => !CHECK_NAME.test(name) || typeof check !== 'function')
  ) {
    throw new ArgumentError('checks must be functions by names of 1 to 80 letters, digits and . _ ~ : / -')
  }
  return list
}

function shown(status: number, body: object): Response {
  return Response.json(body, { status, headers: { 'cache-control': 'no-store' } })
}

/** No issuer has this card; that its directory says so is what is asked for. */
const NO_CARD = 'readiness-check'

/**
 * The checks of issuers as `issuerEndpoints` takes them, by `issuerId/what`: `store` (the directory and the PIN store find
 * nothing for a card that is not there, and say so), `keys` (each key does what a request would have it do), `d1-key` (D1's
 * public key is there).
 *
 * Errors: as `issuerEndpoints`: `ERR_ARGUMENT`, `ERR_JWE_RECIPIENT`.
 *
 * @example
 * ```ts
 * const issuers = { is_tbank01: { cards, pins, jweKeys, iso0: { d1Zpk, storage, d1PublicJwk } } }
 * const health = healthEndpoints({ checks: readinessChecks(issuers) })
 * ```
 */
export function readinessChecks(
  issuers: IssuerEndpointsOptions['issuers'],
): Readonly<Record<string, ReadinessCheck>> {
  const checks: Record<string, ReadinessCheck> = {}
  for (const [issuerId, issuer] of readIssuers(issuers)) {
    const { cards, pins, iso0 } = issuer
    const card = { issuerId, cardId: NO_CARD }
    checks[`${issuerId}/store`] = async options => {
      await cards.find({ ...card, operation: 'getPIN' }, options)
      await pins.readBlock(card, options)
    }
    checks[`${issuerId}/keys`] = options => useKeys(issuer, options)
    if (iso0 !== undefined) checks[`${issuerId}/d1-key`] = () => iso0.recipient()
  }
  return checks
}

async function useKeys({ jweKeys, iso0, seccos }: Issuer, options: CallOptions): Promise<void> {
  for (const key of jweKeys) {
    const recipient = { ...key.publicJwk }
    const jwe = await sealJwe({ plaintext: utf8Bytes('{}'), recipient, kid: key.kid })
    wipe((await openJwe({ jwe, keys: key }, options)).plaintext)
  }
  for (const key of seccos?.macKeys ?? []) {
    for (const algorithm of USAGES[key.usage].macs) {
      const padding = MAC_PADDINGS[algorithm].includes('none') ? 'none' : 1
      const length = macBytes(key.algorithm)
      const mac = secretBytes(length)
      await verifyMac({ key, message: mac, mac, algorithm, padding, length }, options)
    }
  }
  if (iso0 !== undefined) await usePinKeys(iso0, options)
}

/**
 * The first key of a side enciphers what is new there. The others, and a first one that may do no more, are there for what was
 * enciphered under them: it goes to the other side. They may be too old to encipher.
 */
async function usePinKeys(
  { d1Zpk, storage, translation }: NonNullable<Issuer['iso0']>,
  options: CallOptions,
): Promise<void> {
  const pan = Pan.from('000000000000')
  using pin = Pin.from('0000')
  for (const [own, [to]] of [
    [d1Zpk, storage],
    [storage, d1Zpk],
  ] as const) {
    for (const key of own) {
      const format = usualFormat(key)
      if (key === own[0] && key.mode !== 'D') {
        wipe(await encipherPin({ pin, pan, format, key }, options))
        continue
      }
      const block = secretBytes(FORMATS[format].bytes)
      const formats = { fromFormat: format, toFormat: usualFormat(to) } as const
      try {
        wipe(await moveBlock({ block, pan, from: key, to, ...formats, translation }, options))
      } catch (error) {
        // It holds no PIN: that it does not is an answer of the key's.
        if (!isIssuerPinError(error) || error.code !== 'ERR_PIN_BLOCK') throw error
      }
    }
  }
}
