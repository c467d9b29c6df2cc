/**
 * The probe's steps for attributes: which of them this token takes in a template, what its users may do with a key that
 * says it must not change, and whether the templates that bind what a key unwraps and wraps are looked at. Tried on session
 * keys with public test values; it goes into the judgement of keys, and is said in `capabilities()`.
 */
import { asciiBytes, equalBytes } from '../../../base/bytes.js'
import type { AttributeValue, ObjectHandle, Station, Template } from '../binding/binding.js'
import { CKA, CKK, CKM } from '../binding/constants.js'
import { isRefusal, Pkcs11Error } from '../binding/errors.js'
import { readAttribute } from '../mechanisms/objects.js'
import type { Rights } from '../mechanisms/plan.js'
import {
  type RoleBit,
  readableSecret,
  secretKey,
  translatedBlocks,
  UNWRAPPED_KEYS,
} from '../mechanisms/templates.js'
import { KNOWN, type Probe, type ProbeOptions, type TestKeys } from './known-answers.js'

/** A session key with these attributes besides; brought in where that can be done, else generated. */
function keyWith(
  { binding, session }: Station,
  keys: TestKeys | undefined,
  more: Template,
  can: readonly RoleBit[] = ['ENCRYPT'],
): ObjectHandle {
  const bare =
    keys === undefined
      ? secretKey({ keyType: CKK.GENERIC_SECRET, can: ['SIGN'], value: KNOWN.cmacAes.key })
      : keys.known
        ? secretKey({ keyType: CKK.DES3, can, value: KNOWN.tdea3.key })
        : secretKey({ keyType: keys.twoKeyType, can })
  const template = [...bare, ...more]
  if (keys?.known !== false) return binding.C_CreateObject(session, template)
  const mechanism = keys.twoKeyType === CKK.DES2 ? CKM.DES2_KEY_GEN : CKM.DES3_KEY_GEN
  return binding.C_GenerateKey(session, { mechanism }, template)
}

/**
 * What a token lets its users do with a key that says it cannot be modified: widen its rights, or copy it and widen the
 * copy's. Where nothing can be tried nothing is known, and that counts as the worst.
 */
export function probeRights(on: Probe, keys: TestKeys | undefined, notes: string[]): Rights {
  const widens = (
    what: string,
    more: Template,
    widen: (station: Station, key: ObjectHandle) => void,
  ): boolean => {
    const made = on(`a key to try ${what} on`, station => {
      const key = keyWith(station, keys, [[CKA.MODIFIABLE, false], ...more])
      return unlessRefused(() => {
        widen(station, key)
        return true
      })
    })
    return !made.ok || made.by === true
  }
  // These are true where they have been seen: a token that cannot wrap at all takes nothing away.
  const happens = (what: string, seen: (station: Station) => boolean): boolean => {
    const found = on(`a key to try ${what} on`, seen)
    return found.ok && found.by
  }
  const wider: Template = [[CKA.DECRYPT, true]]
  const copy = ({ binding, session }: Station, key: ObjectHandle): void => {
    binding.C_CopyObject(session, key, wider)
  }
  const rights: Rights = {
    copyWidens: widens('copying', [], copy),
    copyOfUncopyableWidens: widens('copying what is not copyable', [[CKA.COPYABLE, false]], copy),
    modifyWidens: widens('modifying', [], ({ binding, session }, key) =>
      binding.C_SetAttributeValue(session, key, wider),
    ),
    wrapsOut: WRAPPERS.some(by =>
      happens('wrapping what is not extractable', station => wrapsOut(station, keys, by)),
    ),
    statesAnyCheckValue:
      happens('a stated check value', station => takesFalse(station, more => keyWith(station, keys, more))) ||
      happens('a copy with a stated check value', station => {
        const key = keyWith(station, keys, [])
        return takesFalse(station, more => station.binding.C_CopyObject(station.session, key, more))
      }),
  }
  if (rights.wrapsOut)
    notes.push('users of this token can wrap a key that is not extractable, and take it away')
  if (rights.statesAnyCheckValue)
    notes.push('CKA_CHECK_VALUE is whatever the maker of a key states here: it is not looked at')
  notes.push(
    rights.copyWidens
      ? `users of this token can copy a key and give the copy wider rights${rights.copyOfUncopyableWidens ? '' : ', unless CKA_COPYABLE is false'}`
      : 'tried on a test key: this token gives no copy wider rights',
    rights.modifyWidens
      ? 'users of this token can give a key wider rights'
      : 'tried on a test key: this token gives a key that is not modifiable no wider rights',
  )
  return rights
}

/** Undefined where the token refuses. SoftHSM says of the handle that what it names may not be wrapped. */
function unlessRefused<T>(attempt: () => T): T | undefined {
  try {
    return attempt()
  } catch (error) {
    if (isRefusal(error) || (error instanceof Pkcs11Error && error.kind === 'key-handle')) return undefined
    throw error
  }
}

interface Wrapper {
  readonly mechanism: number
  readonly makes: number
  readonly keyType: number
  readonly length: number | undefined
}

const WRAPPERS: readonly Wrapper[] = [
  { mechanism: CKM.AES_KEY_WRAP, makes: CKM.AES_KEY_GEN, keyType: CKK.AES, length: 16 },
  { mechanism: CKM.DES3_ECB, makes: CKM.DES3_KEY_GEN, keyType: CKK.DES3, length: undefined },
]
/** More than a wrapped test key has. */
const WRAPPED_BYTES = 64

/** Whether a test key that is not extractable is wrapped by a key of the token's own making. */
function wrapsOut(
  station: Station,
  keys: TestKeys | undefined,
  { mechanism, makes, keyType, length }: Wrapper,
): boolean {
  const { binding, session } = station
  const victim = keyWith(station, keys, [])
  const wrapped = unlessRefused(() => {
    const template = secretKey({ keyType, can: ['WRAP'], ...(length !== undefined && { length }) })
    const by = binding.C_GenerateKey(session, { mechanism: makes }, template)
    return binding.C_WrapKey(session, { mechanism }, by, victim, WRAPPED_BYTES)
  })
  return wrapped !== undefined
}

/** The check value of no test key. */
const FALSE_CHECK_VALUE: Uint8Array = asciiBytes('bad')

/** Whether a key that is made with a check value that is not its own shows that one. */
function takesFalse({ binding, session }: Station, make: (more: Template) => ObjectHandle): boolean {
  const shown = unlessRefused(() => {
    const key = make([[CKA.CHECK_VALUE, FALSE_CHECK_VALUE]])
    return readAttribute(binding, session, key, CKA.CHECK_VALUE)
  })
  return shown !== undefined && equalBytes(shown, FALSE_CHECK_VALUE)
}

const ATTRIBUTES: readonly (readonly [name: string, type: number, value: AttributeValue, can: RoleBit])[] = [
  ['CKA_MODIFIABLE', CKA.MODIFIABLE, false, 'ENCRYPT'],
  ['CKA_COPYABLE', CKA.COPYABLE, false, 'ENCRYPT'],
  ['CKA_DESTROYABLE', CKA.DESTROYABLE, true, 'ENCRYPT'],
  ['CKA_ALLOWED_MECHANISMS', CKA.ALLOWED_MECHANISMS, [CKM.DES3_ECB, CKM.DES3_CBC], 'ENCRYPT'],
  ['CKA_WRAP_WITH_TRUSTED', CKA.WRAP_WITH_TRUSTED, true, 'ENCRYPT'],
  ['CKA_UNWRAP_TEMPLATE', CKA.UNWRAP_TEMPLATE, UNWRAPPED_KEYS, 'UNWRAP'],
  ['CKA_WRAP_TEMPLATE', CKA.WRAP_TEMPLATE, translatedBlocks(), 'WRAP'],
]

function isTemplate(value: AttributeValue): boolean {
  return Array.isArray(value) && value.some(item => Array.isArray(item))
}

/**
 * The attributes of new keys that this token does not take, each by itself; each refusal is noted with its name and what the
 * token said.
 */
export function probeAttributes(
  on: Probe,
  keys: TestKeys | undefined,
  { nestedTemplates, notes }: Pick<ProbeOptions, 'nestedTemplates'> & { readonly notes: string[] },
): number[] {
  if (keys === undefined) return []
  return ATTRIBUTES.flatMap(([name, type, value, can]) => {
    if (!nestedTemplates && isTemplate(value)) {
      const why = 'not tried, because this module loses its token over a template within a template'
      notes.push(`${name} in a template (keys are made without it): ${why}`)
      return [type]
    }
    const cause = isTemplate(value) ? '; pkcs11js cannot state it, koffi can' : ''
    const what = `${name} in a template (keys are made without it${cause})`
    return on(what, station => keyWith(station, keys, [[type, value]], [can])).ok ? [] : [type]
  })
}

/**
 * Whether a key with CKA_UNWRAP_TEMPLATE unwraps only what the template says, and one with CKA_WRAP_TEMPLATE wraps only
 * that: some tokens store them and do not look at them. Each is tried beside a key without it, for a token that does not
 * unwrap at all says nothing of templates. What the token does not take is not tried.
 */
export function probeBonds(on: Probe, refused: readonly number[], notes: string[]): void {
  const { kek, key, wrapped } = KNOWN.keyWrap
  const mechanism = { mechanism: CKM.AES_KEY_WRAP }
  const wrapping = ({ binding, session }: Station, can: RoleBit, more: Template): ObjectHandle =>
    binding.C_CreateObject(session, [...secretKey({ keyType: CKK.AES, can: [can], value: kek }), ...more])
  const ways: readonly {
    readonly name: string
    readonly can: RoleBit
    readonly bond: Template
    readonly risk: string
    readonly use: (station: Station, by: ObjectHandle) => void
  }[] = [
    {
      name: 'CKA_UNWRAP_TEMPLATE',
      can: 'UNWRAP',
      bond: [[CKA.UNWRAP_TEMPLATE, UNWRAPPED_KEYS]],
      risk: 'whoever may use the token can unwrap a key into one that is readable',
      use: ({ binding, session }, by) => {
        binding.C_UnwrapKey(session, mechanism, by, wrapped, readableSecret(undefined))
      },
    },
    {
      name: 'CKA_WRAP_TEMPLATE',
      can: 'WRAP',
      bond: [[CKA.WRAP_TEMPLATE, translatedBlocks()]],
      risk: 'whoever may use the token can wrap whatever is extractable',
      use: ({ binding, session }, by) => {
        const victim = binding.C_CreateObject(session, [
          ...readableSecret(undefined).filter(([type]) => type !== CKA.VALUE_LEN),
          [CKA.VALUE, key],
        ])
        binding.C_WrapKey(session, mechanism, by, victim, wrapped.length)
      },
    },
  ]
  for (const { name, can, bond, risk, use } of ways) {
    if (bond.some(([type]) => refused.includes(type))) continue
    const free = on(`${name} cannot be tried, for this token refuses the same without it`, station =>
      use(station, wrapping(station, can, [])),
    )
    if (!free.ok) continue
    const held = on(`${name} on an AES key`, station => {
      const by = wrapping(station, can, bond)
      const done = unlessRefused(() => {
        use(station, by)
        return true
      })
      return done === undefined
    })
    if (held.ok) {
      notes.push(`tried on a test key: ${name} ${held.by ? 'holds' : `is stored and not looked at: ${risk}`}`)
    }
  }
}
