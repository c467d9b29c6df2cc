/**
 * What a computation covers: a value is covered where a change of it changes what is MACed. Everything else a profile
 * must list as `uncovered`, so that its author, its reviewer and the tests know it.
 */
import { type Computation, type ComputationInput, isConstant, type SeccosProfile } from './profile.js'

/**
 * The names of all values that a PRW, or the MAC over it, could cover: the ids of the fields with content, and
 * besides `pan`, `pinBlock`, `pcc`, `intdatag`, `random` where the profile has one, and for the MAC `prw`.
 */
function valuesOf(profile: SeccosProfile, which: 'prw' | 'mac'): Set<string> {
  const names = new Set(['pan', 'pinBlock', 'pcc', 'intdatag'])
  if (profile.randomBytes > 0) names.add('random')
  for (const field of profile.fields) if (!isConstant(field)) names.add(field.id)
  if (which === 'mac') names.add('prw')
  return names
}

/** The names that one input covers. */
function coveredBy(profile: SeccosProfile, part: ComputationInput): string[] {
  switch (part.input) {
    case 'dataSet.full':
    case 'dataSet.masked':
      return profile.fields
        .filter(field => !isConstant(field) && (part.input === 'dataSet.full' || !field.masked))
        .map(field => field.id)
    case 'field':
      return [part.id]
    case 'constant':
      return []
    default:
      return [part.input]
  }
}

/**
 * The names of the values that the profile's PRW, or its MAC, does not cover. A value counts as covered only where it
 * enters whole and by itself: a format 0 PIN block holds 12 digits of the PAN and does not cover the PAN; a MAC over
 * the PRW does not cover the PIN. Takes what {@link parseProfile} made: anything else is refused there, `ERR_PROFILE`.
 *
 * @example
 * ```ts
 * uncoveredBy(profile, 'mac') // ['pan', 'pinBlock']
 * ```
 */
export function uncoveredBy(profile: SeccosProfile, which: 'prw' | 'mac'): string[] {
  const computation: Computation = profile[which]
  const covered = new Set(computation.inputs.flatMap(part => coveredBy(profile, part)))
  return [...valuesOf(profile, which)].filter(name => !covered.has(name))
}
