/** What a leak case is: one public verb, how to call it rightly, and what its result is meant to hold. */
import type { World } from './world.js'

export interface LeakCase {
  /** The export, or `object.method`. */
  readonly verb: string
  readonly call: (args: readonly unknown[], world: World) => unknown
  /** Right arguments, fresh for each call. */
  readonly args: (world: World) => readonly unknown[] | Promise<readonly unknown[]>
  /** The canaries that the result is there to give; nothing else may be in it, and no error may show even these. */
  readonly holds?: readonly string[]
  /** Members that take a name of the caller's (a kid, a path, a label): names stand in errors, so no secret is put there. */
  readonly names?: readonly string[]
  /** Members that the result repeats: what is put there is in the result, and may be. */
  readonly echoes?: readonly string[]
  /** Even called rightly it is refused: what is shown is the refusal. */
  readonly refused?: true
  /** Each call takes long: fewer wrong values. */
  readonly slow?: true
  /** The verb needs no backend: it is not called again on the others. */
  readonly pure?: true
}

/** A case whose verb takes its arguments as they are. */
// biome-ignore lint/suspicious/noExplicitAny: verbs of every signature, called with arguments of every kind
export type AnyVerb = (...args: any[]) => unknown

export function verb(name: string, fn: AnyVerb, args: LeakCase['args'], more?: Partial<LeakCase>): LeakCase {
  return { verb: name, call: given => fn(...given), args, ...more }
}

/** A case of a method of an object that the world makes. */
export function method(
  name: string,
  on: (world: World) => object,
  args: LeakCase['args'],
  more?: Partial<LeakCase>,
): LeakCase {
  const last = name.slice(name.lastIndexOf('.') + 1)
  return {
    verb: name,
    call: (given, world) => {
      const holder = on(world)
      return Reflect.apply(Reflect.get(holder, last) as AnyVerb, holder, [...given])
    },
    args,
    ...more,
  }
}
