/**
 * An open, logged-in, probed token: the way in and, in reverse, the way out. Everything that was opened is closed
 * again when a later step fails.
 */

import type {
  LoadBinding,
  ModuleInfo,
  Pkcs11Binding,
  SessionSource,
  SlotId,
  TokenInfo,
} from '../binding/binding.js'
import { CKF } from '../binding/constants.js'
import { quietly, withCode } from '../binding/errors.js'
import type { Plan } from '../mechanisms/plan.js'
import { probeToken } from '../probe/probe.js'
import { makeProbeKey, type ProbeKey } from '../probe/test-keys.js'
import { ModuleShare } from './module.js'
import type { Settings } from './options.js'
import { findToken, prepareLogin } from './token.js'

export interface Connection {
  readonly binding: Pkcs11Binding
  readonly slot: SlotId
  readonly module: ModuleInfo
  readonly token: TokenInfo
  readonly plan: Plan
  readonly probe: ProbeKey | undefined
  /** Opens sessions for operations, read-only unless told otherwise. */
  source(readWrite: boolean): SessionSource
  /** Logs out and finalises where nobody else in this process needs that, and never fails. */
  close(): void
}

/**
 * Module, token, anchor session, login, probe: in this order, so that the PIN is asked for when everything that can
 * go wrong without it has gone right.
 *
 * Errors: `ERR_PKCS11_UNAVAILABLE`, `ERR_PKCS11_MODULE`, `ERR_PKCS11_TOKEN`, `ERR_PKCS11_LOGIN`,
 * `ERR_PKCS11_SELF_TEST`, `ERR_PKCS11_CALL`.
 */
export async function connect(settings: Settings, load: LoadBinding): Promise<Connection> {
  const share = await ModuleShare.acquire(settings.module, settings.initParameters, load)
  const { binding } = share
  const undo: (() => void)[] = [() => share.release()]
  const close = (): void => {
    for (const step of undo.splice(0).reverse()) quietly(step)
  }
  try {
    const module = withCode('ERR_PKCS11_MODULE', () => binding.C_GetInfo())
    const { slot, info } = withCode('ERR_PKCS11_TOKEN', () => findToken(binding, settings.token))
    const source = (readWrite: boolean): SessionSource => sessionSource(binding, slot, readWrite)
    const { open, close: closeSession } = source(settings.readWrite)
    const anchor = withCode('ERR_PKCS11_TOKEN', open)
    undo.push(() => closeSession(anchor))
    const login = `${info.label}\0${info.serial}`
    const logIn = await prepareLogin(() => binding.C_GetTokenInfo(slot), settings.login)
    share.joinLogin(login, logIn(binding, anchor))
    undo.push(() => {
      if (share.leaveLogin(login)) binding.C_Logout(anchor)
    })
    const { plan, testKeys } = probeToken(binding, source(settings.readWrite), settings.probe)
    // On the anchor session, whose end would end it: a stale handle then says that the login is in danger.
    const probe = testKeys && makeProbeKey({ binding, session: anchor }, testKeys)
    return { binding, slot, module, token: info, plan, probe, source, close }
  } catch (error) {
    close()
    throw error
  }
}

function sessionSource(binding: Pkcs11Binding, slot: SlotId, readWrite: boolean): SessionSource {
  const flags = CKF.SERIAL_SESSION | (readWrite ? CKF.RW_SESSION : 0)
  return {
    open: () => binding.C_OpenSession(slot, flags),
    close: session => binding.C_CloseSession(session),
  }
}

/** The most sessions a token says it has for us, the anchor apart; undefined where it does not say. */
export function sessionsOf({ maxSessions }: TokenInfo): number | undefined {
  // CK_EFFECTIVELY_INFINITE is 0, CK_UNAVAILABLE_INFORMATION all ones.
  if (maxSessions === 0 || maxSessions >= 0xffff_fffe) return undefined
  return Math.max(1, maxSessions - 1)
}
