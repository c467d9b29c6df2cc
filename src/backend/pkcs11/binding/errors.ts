/** What a PKCS#11 return value means for us: whose fault, whether the session is still good, whether to try again. */
import { BackendError, type ErrorCode } from '../../../base/errors.js'
import { hexNumber, returnValueName } from './constants.js'

/**
 * - `data`: what was given is refused; the session is good.
 * - `session`: the session is lost or spoilt; another one will do.
 * - `key-handle`: the handle does not name the key any more; the key may be found again.
 * - `capacity`: the token is out of sessions or memory for now.
 * - `login`: this process's login is gone.
 * - `pin`: the login was refused. Never tried again.
 * - `device`: the token or its library is gone until it is initialised anew.
 * - `configuration`: the token does not do this, or not with this key.
 * - `unclear`: a general error; only a health check can tell.
 */
export type Pkcs11ErrorKind =
  | 'data'
  | 'session'
  | 'key-handle'
  | 'capacity'
  | 'login'
  | 'pin'
  | 'device'
  | 'configuration'
  | 'unclear'

/** How the backend comes back from a kind of failure. Each cure is tried once for a call, the lighter ones first. */
type Cure = 'none' | 'session' | 'key' | 'login' | 'initialise' | 'ask'

interface ErrorClass {
  readonly values: readonly number[]
  /** What helps: another session, finding the key anew, a login, C_Finalize and C_Initialize; `ask`: exercise a key first. */
  readonly cure: Cure
  /** The same call may go through later: with another session, a fresh handle, a returned device. */
  readonly retryable: boolean
  readonly advice?: string
}

/** The error classes: every return value this backend knows, what it says and what helps. */
const CLASSES: Readonly<Record<Pkcs11ErrorKind, ErrorClass>> = {
  data: { values: [0x20, 0x21, 0x40, 0x41, 0x42, 0xc0, 0xc1, 0x110, 0x112], cure: 'none', retryable: false },
  session: { values: [0x90, 0x91, 0xb0, 0xb3, 0x150, 0x202], cure: 'session', retryable: true },
  'key-handle': { values: [0x60, 0x82, 0xf0, 0x113], cure: 'key', retryable: true },
  capacity: { values: [0x02, 0x31, 0xb1, 0x201], cure: 'none', retryable: true },
  login: {
    values: [0x101],
    cure: 'login',
    retryable: true,
    advice: 'this process is no longer logged in; the backend logs in again by itself',
  },
  pin: {
    values: [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x102, 0x103, 0x104, 0x105],
    cure: 'none',
    retryable: false,
    advice: 'the PIN is not sent again: look into it, then open the backend anew',
  },
  device: {
    values: [0x03, 0x30, 0x32, 0xe0, 0xe1, 0x190],
    cure: 'initialise',
    retryable: true,
    advice: 'the token or its library is gone; the backend comes back with it by itself',
  },
  configuration: {
    values: [
      0x07, 0x10, 0x11, 0x12, 0x13, 0x1b, 0x54, 0x62, 0x63, 0x64, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x70, 0x71,
      0xb5, 0xd0, 0xd1, 0xe2, 0xf1, 0xf2, 0x114, 0x115, 0x121, 0x130, 0x140, 0x1b9, 0x200, 0x203,
    ],
    cure: 'none',
    retryable: false,
  },
  unclear: { values: [0x05, 0x06], cure: 'ask', retryable: false },
}

const KINDS: ReadonlyMap<number, Pkcs11ErrorKind> = new Map(
  (Object.keys(CLASSES) as Pkcs11ErrorKind[]).flatMap(kind =>
    CLASSES[kind].values.map(value => [value, kind] as const),
  ),
)

/** What helps against an error; `none` for one that is not of PKCS#11. */
export function cureOf(error: unknown): Cure {
  return error instanceof Pkcs11Error ? CLASSES[error.kind].cure : 'none'
}

/**
 * A PKCS#11 call that failed: `ERR_PKCS11_CALL`, or the code of the step it belongs to (`ERR_PKCS11_MODULE`,
 * `ERR_PKCS11_LOGIN`). Names the function and the return value, and nothing that went into the call.
 *
 * @example
 * ```ts
 * if (error instanceof Pkcs11Error) log(error.functionName, error.returnValueName, error.retryable)
 * ```
 */
export class Pkcs11Error extends BackendError {
  override readonly name: string = 'Pkcs11Error'
  /** The PKCS#11 function that failed, such as `C_Encrypt`. */
  readonly functionName: string
  /** Its CK_RV. */
  readonly returnValue: number
  /** The name of that value, such as `CKR_DEVICE_ERROR`. */
  readonly returnValueName: string
  readonly kind: Pkcs11ErrorKind

  constructor(functionName: string, returnValue: number, code: ErrorCode = 'ERR_PKCS11_CALL') {
    const name = returnValueName(returnValue)
    const kind = KINDS.get(returnValue) ?? 'unclear'
    const { advice, retryable } = CLASSES[kind]
    const message = `${functionName} returned ${name} (${hexNumber(returnValue)})`
    super(code, advice === undefined ? message : `${message}; ${advice}`, { retryable })
    this.functionName = functionName
    this.returnValue = returnValue
    this.returnValueName = name
    this.kind = kind
  }

  /** The same failure as part of a step that has a code of its own. */
  as(code: ErrorCode): Pkcs11Error {
    return new Pkcs11Error(this.functionName, this.returnValue, code)
  }
}

/** Runs a step of opening a token; a failing PKCS#11 call in it gets the step's code. */
export function withCode<T>(code: ErrorCode, step: () => T): T {
  try {
    return step()
  } catch (error) {
    throw error instanceof Pkcs11Error ? error.as(code) : error
  }
}

/** True where a token says, one way or another, that it does not do this; other failures are failures. */
export function isRefusal(error: unknown): error is Pkcs11Error {
  return (
    error instanceof Pkcs11Error &&
    (error.kind === 'configuration' || error.kind === 'data' || error.kind === 'unclear')
  )
}

/** Takes a step of closing; a token that is gone is no reason not to take the next. */
export function quietly(step: () => void): void {
  try {
    step()
  } catch {
    // Nobody could do anything about it.
  }
}
