/**
 * Ephemeral points that are not on P-256, of small order on a curve that is (SEC 1, 3.2.2 asks the receiver to check). The
 * formulas for adding points do not use the curve's b, so an issuer that does not check computes with them all the same, and
 * what comes out is one of few points, whatever its private key is: the sender can guess it.
 */
import { randomBytes } from 'node:crypto'

/** P-256's prime and a. */
const P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn
const A = P - 3n

/** A point, and the x coordinate that a multiplication of it gives for as many private keys as possible. */
export interface SmallOrderPoint {
  readonly x: string
  readonly y: string
  /** 32 bytes. */
  readonly z: Buffer
}

const mod = (n: bigint): bigint => ((n % P) + P) % P

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (let [b, e] = [mod(base), exponent]; e > 0n; e >>= 1n) {
    if (e & 1n) result = mod(result * b)
    b = mod(b * b)
  }
  return result
}

const inverse = (n: bigint): bigint => power(n, P - 2n)

/** P is 3 modulo 4. */
function squareRoot(n: bigint): bigint | undefined {
  const root = power(n, (P + 1n) / 4n)
  return mod(root * root) === mod(n) ? root : undefined
}

const bytes = (n: bigint): Buffer => Buffer.from(n.toString(16).padStart(64, '0'), 'hex')

/** x of the point, its y where there is one, and x of the multiple that is guessed. */
type Try = (random: bigint) => readonly [x: bigint, y: bigint | undefined, z: bigint]

/** By order; what is said of the key is the part of all keys for which the guess is right. */
const TRIES: Readonly<Record<2 | 3 | 4, Try>> = {
  // y = 0: an odd key gives the point itself.
  2: x => [x, 0n, x],
  // The division polynomial of 3 is 0 for this b: a key that 3 does not divide gives the point or its negative.
  3: x => {
    const b = mod((A * A - 3n * x ** 4n - 6n * A * x * x) * inverse(12n * x))
    return [x, squareRoot(mod(x * x * x + A * x + b)), x]
  },
  // Twice the point is (e, 0): a key that is even, and not divided by 4, gives that.
  4: e => {
    const step = squareRoot(mod(3n * e * e + A))
    if (step === undefined) return [0n, undefined, e]
    const x = mod(e + step)
    return [x, squareRoot(mod((x - e) * (x * x + e * x + A + e * e))), e]
  },
}

/** A random point of an order. It is on no P-256: that curve's order is a prime. */
export function smallOrderPoint(order: 2 | 3 | 4): SmallOrderPoint {
  for (;;) {
    const [x, y, z] = TRIES[order](mod(BigInt(`0x${randomBytes(40).toString('hex')}`)))
    if (y === undefined || (order !== 2 && y === 0n)) continue
    return { x: bytes(x).toString('base64url'), y: bytes(y).toString('base64url'), z: bytes(z) }
  }
}
