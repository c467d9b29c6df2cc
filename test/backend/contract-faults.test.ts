/** Backends that are opened, sealed and closed wrongly, in one thing each: the contract notices each of them. */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { makeKey, operationsOf } from '../../src/backend/key.js'
import { BackendError, KeyError } from '../../src/base/errors.js'
import type { Backend } from '../../src/index.js'
import { CONTRACT_KEYS } from '../../src/testing.js'
import { SAME_NONCE, signDigestWith } from '../pkcs11/fake-ecdsa.js'
import { brokenRules, type Fault } from '../support/faulty-backend.js'

const SEALED = /^after seal/
const RINGED = /^what the key ring does not have/
const ASKED = /^the opener is asked before each operation/
const CLOSED = /^close waits for what is in flight/
const TWICE = /^closing twice/
const RANDOM = /^randomBytes refuses/
const BEGUN = /^a key before its beginning/
const CASED = /^a check value is compared in either case/
const MODES = /^a MAC key bound in mode V/
const DERIVED = /^a key that is derived for one message/
const OWN = /refuses every operation that is not its own/
const MANY_SIGNED = /signatures at once/
const READ_FIRST = /^inputs are read before the call returns/
const NO_WAY_BACK = /^a key gives no way back: /

function privateOf(kid: string): { readonly d: string } {
  const material = CONTRACT_KEYS.find(key => key.kid === kid)?.material
  return typeof material === 'object' && 'd' in material ? material : expect.unreachable()
}

/** By what a fact of a key leads to its backend, or to a call of it. */
const WAYS: Readonly<Record<string, (good: Backend) => object>> = {
  'by a property': backend => ({ backend }),
  'by a hidden property': backend => Object.defineProperty({}, 'backend', { value: backend }),
  'by a symbol': backend => ({ [Symbol('backend')]: backend }),
  'by a prototype': backend => Object.create({ backend }),
  'by a getter': backend => ({
    get backend() {
      return backend
    },
  }),
  'by a getter of its prototype': backend =>
    new (class {
      get backend() {
        return this === Object.getPrototypeOf(this) ? undefined : backend
      }
    })(),
  'by what a getter has': backend =>
    Object.defineProperty({}, 'fact', { get: Object.assign(() => 1, { backend }) }),
  'by what a setter has': backend =>
    Object.defineProperty({}, 'fact', { set: Object.assign((_: unknown) => {}, { backend }) }),
  'by a call of it': backend => ({ bind: backend.bind.bind(backend) }),
}

test('nothing is found where nothing is wrong', async () => {
  for (const rule of [
    SEALED,
    RINGED,
    ASKED,
    CLOSED,
    TWICE,
    RANDOM,
    BEGUN,
    CASED,
    MODES,
    DERIVED,
    OWN,
    MANY_SIGNED,
    READ_FIRST,
    NO_WAY_BACK,
  ])
    expect(await brokenRules(rule, {})).toEqual([])
})

test.each<[string, RegExp, Fault]>([
  ['a seal that seals nothing', SEALED, { backend: () => ({ seal: () => {} }) }],
  ['a ring that nobody looks at', RINGED, { options: ({ ring: _, ...others }) => others }],
  [
    'a ring whose check values nobody looks at',
    RINGED,
    { options: given => ({ ...given, ring: given.ring?.map(({ kcv: _, ...key }) => key) ?? [] }) },
  ],
  ['an opener who is not asked', ASKED, { options: ({ onOperation: _, ...others }) => others }],
  [
    'an opener whose refusal does not count',
    ASKED,
    {
      options: ({ onOperation, ...others }) => ({
        ...others,
        onOperation: use => {
          try {
            onOperation?.(use)
          } catch {}
        },
      }),
    },
  ],
  [
    'an opener who is not asked about one operation',
    ASKED,
    {
      options: ({ onOperation, ...others }) => ({
        ...others,
        onOperation: use => {
          if (use.operation !== 'reencipher') onOperation?.(use)
        },
      }),
    },
  ],
  [
    'an opener whose refusal does not keep a block from being moved',
    ASKED,
    {
      options: ({ onOperation, ...others }) => ({
        ...others,
        onOperation: use => {
          try {
            onOperation?.(use)
          } catch (error) {
            if (use.operation !== 'reencipher') throw error
          }
        },
      }),
    },
  ],
  [
    'a beginning that nobody looks at',
    BEGUN,
    { backend: good => ({ bind: ({ validFrom: _, ...spec }, options) => good.bind(spec, options) }) },
  ],
  [
    'a check value in small letters that is no check value',
    CASED,
    {
      backend: good => ({
        bind: async (spec, options) => {
          if (typeof spec.kcv === 'string' && /[a-f]/.test(spec.kcv))
            throw new KeyError('ERR_KEY_CHECK_VALUE', 'another', spec.kid)
          return good.bind(spec, options)
        },
      }),
    },
  ],
  ...(['G', 'V'] as const).map((narrow): [string, RegExp, Fault] => [
    `a MAC key in mode ${narrow} that does both`,
    MODES,
    {
      backend: good => ({
        bind: ({ mode, ...spec }, options) =>
          good.bind(mode === undefined || mode === narrow ? spec : { ...spec, mode }, options),
      }),
    },
  ]),
  [
    'keys that are said to be derived, and are not',
    DERIVED,
    {
      key: good => ({
        mac: async (request, ...rest) => {
          if (request.derivation !== undefined) throw new BackendError('ERR_UNSUPPORTED', 'not here')
          return good.mac(request, ...rest)
        },
      }),
    },
  ],
  ...(
    [
      ['mac', 'cmac'],
      ['deriveContentKey', 'jwe-key-agreement'],
    ] as const
  ).map(([name, of]): [string, RegExp, Fault] => [
    `${name}: what is given is read a turn late`,
    READ_FIRST,
    {
      // Of these keys alone: a block is moved between two whose operations are their own.
      key: (good, { usage }) => ({
        ...(usage === of && {
          [name]: async (...given: unknown[]) => {
            await Promise.resolve()
            return Reflect.apply(good[name], good, given) as Promise<Uint8Array>
          },
        }),
      }),
    },
  ]),
  [
    'what is given for an agreement is read a turn late where there is no CMAC',
    READ_FIRST,
    {
      backend: good => ({
        capabilities: () => {
          const { macs, ...others } = good.capabilities()
          return { ...others, macs: { ...macs, cmac: 'none' } }
        },
      }),
      key: (good, { usage }) => ({
        ...(usage === 'jwe-key-agreement' && {
          deriveContentKey: async (...given) => {
            await Promise.resolve()
            return good.deriveContentKey(...given)
          },
        }),
      }),
    },
  ],
  ...Object.entries(WAYS).map(([name, way]): [string, RegExp, Fault] => [
    `a key that leads to its backend ${name}`,
    NO_WAY_BACK,
    {
      backend: good => ({
        bind: async (...call) => {
          const key = await good.bind(...call)
          // A fact that the key keeps as it is given.
          return makeKey({ ...key, pinValue: way(good) as never }, operationsOf(key))
        },
      }),
    },
  ]),
  [
    'an error that shows a private key',
    OWN,
    {
      key: (good, { usage }) =>
        usage !== 'jwt-signing'
          ? {}
          : {
              mac: async (...given) => {
                await Promise.resolve(good.mac(...given)).catch(() => {
                  throw new KeyError('ERR_KEY_USAGE', `a key of ${privateOf('SIGN-1').d}`)
                })
                return expect.unreachable()
              },
            },
    },
  ],
  [
    'two messages that are signed with one nonce',
    MANY_SIGNED,
    {
      key: (_, { usage }) => ({
        ...(usage === 'jwt-signing' && {
          sign: async (message: Uint8Array) => {
            const digest = createHash('sha256').update(message).digest()
            const scalar = Buffer.from(privateOf('SIGN-1').d, 'base64url')
            return new Uint8Array(Buffer.concat(signDigestWith(scalar, digest, SAME_NONCE)))
          },
        }),
      }),
    },
  ],
  ['a close that closes nothing', CLOSED, { backend: () => ({ close: async () => {} }) }],
  [
    'one that is well when it is closed',
    CLOSED,
    { backend: () => ({ health: async () => ({ ok: true, detail: '' }) }) },
  ],
  [
    'a second close that fails',
    TWICE,
    {
      backend: good => {
        let closed = false
        return {
          close: async () => {
            if (closed) throw new BackendError('ERR_BACKEND_CLOSED', 'closed already')
            closed = true
            await good.close()
          },
        }
      },
    },
  ],
  [
    'random bytes of any length',
    RANDOM,
    { backend: good => ({ randomBytes: length => good.randomBytes(Math.abs(length % 65_536) || 1) }) },
  ],
])('%s', async (_, rule, fault) => {
  expect(await brokenRules(rule, fault)).not.toEqual([])
})
