/** The cases of `issuer-pin-crypto` and `issuer-pin-crypto/software`. */

import { operationsOf } from '../../src/backend/key.js'
import * as core from '../../src/index.js'
import { panDigits } from '../../src/primitives/pan.js'
import * as software from '../../src/software.js'
import * as tools from '../../src/tools.js'
import { type LeakCase, method, verb } from './cases.js'
import * as secret from './secrets.js'
import { FIELDS, KEYS, newCounter, profile, type World } from './world.js'

const bytes = (buffer: Uint8Array): Uint8Array => Uint8Array.from(buffer)
/** A block of AES is as long as two of TDEA. */
const twice = (block: Uint8Array): Uint8Array => Uint8Array.of(...block, ...block)
const pan = (): core.Pan => core.Pan.from(secret.pan)
const pin = (): core.Pin => core.Pin.from(secret.pin)
const content = JSON.stringify({ pinValue: secret.sharedBlock.toString('hex').toUpperCase(), kid: 'ZPK' })
const d1Public = { kty: 'EC', crv: 'P-256', x: secret.d1.x, y: secret.d1.y, kid: 'D1' } as const
const values = ({ seccos }: World) => ({
  pan: pan(),
  pin: pin(),
  pcc: seccos.pcc,
  intdatag: seccos.intdatag,
  random: seccos.random,
  fields: FIELDS,
})
const prw = (world: World) => ({
  ...values(world),
  profile,
  dataSet: world.seccos.dataSet,
  prwValue: world.seccos.prwValue,
})

const prwMac = (world: World) => {
  const { pin: _, ...rest } = prw(world)
  return { ...rest, key: world.keys.mac }
}
const message = {
  message: bytes(secret.clearBlock),
  algorithm: 'iso9797-1-alg3',
  padding: 2,
  length: 8,
} as const
const request = () => ({
  ephemeralPublicKey: secret.ephemeralPublicKey,
  otherInfo: bytes(secret.otherInfo),
  length: 32,
})
const move = ({ keys }: World) => ({ block: bytes(secret.storedBlock), from: keys.store, to: keys.zpk })

const blockValue = ({ keys }: World) =>
  ({ block: bytes(secret.storedBlock), pan: pan(), format: 0, from: keys.store }) as const
/** What a PIN block can be verified against, each kind. */
const REFERENCES: {
  readonly [Kind in core.PinReference['kind']]: (world: World) => core.PinReference & { readonly kind: Kind }
} = {
  block: ({ keys }) => ({ kind: 'block', block: bytes(secret.sharedBlock), format: 0, key: keys.zpk }),
  prw: world => {
    const { pin: _, pan: __, ...reference } = prw(world)
    return { kind: 'prw', ...reference, key: world.keys.prwV }
  },
  pvv: ({ keys }) => ({ kind: 'pvv', pvv: '0000', key: keys.pvk }),
  offset: ({ keys }) => ({ kind: 'offset', offset: '000000000000', key: keys.offset }),
}
const triesOptions = () => ({
  store: core.memoryStore(),
  products: { classic: { limit: 3, afterSuccess: 'reset' as const } },
})
const POLICY = core.pinPolicy({ minLength: 4, maxLength: 12, refuse: ['runs'] })
const TRIED = { cardId: 'card-1', product: 'classic' }

const carried = () => ({ material: bytes(secret.keys['carried key']), algorithm: 'aes-128' as const })
const sealing = ({ keys }: World) => ({
  key: keys.kbpk,
  version: 'D' as const,
  ...carried(),
  usage: 'cmac' as const,
  mode: 'C' as const,
  exportability: 'E' as const,
})
/** Made in software, so that opening it is what a failing backend fails at. */
async function sealedBlock(_: World): Promise<string> {
  const backend = await software.softwareBackend({
    keys: [
      {
        kid: 'KBPK',
        usage: 'key-block-protection',
        algorithm: 'aes-128',
        material: bytes(secret.keys['key block key']),
      },
    ],
  })
  const key = await backend.bind({ kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true })
  const { block } = await core.sealKeyBlock({ ...sealing({ keys: { kbpk: key } } as never) })
  await backend.close()
  return block
}

export const CORE: readonly LeakCase[] = [
  verb(
    'Pin.from',
    digits => core.Pin.from(digits),
    () => [secret.pin],
    { pure: true },
  ),
  method('Pin.reveal', pin, () => [], { holds: ['PIN'], pure: true }),
  method('Pin.revealAscii', pin, () => [], { holds: ['PIN'], pure: true }),
  method('Pin.equals', pin, () => [pin()], { pure: true }),
  method('Pin.dispose', pin, () => [], { pure: true }),
  method('Pin.toString', pin, () => [], { pure: true }),
  method('Pin.toJSON', pin, () => [], { pure: true }),
  verb(
    'Pan.from',
    digits => core.Pan.from(digits),
    () => [secret.pan],
    { pure: true },
  ),
  method('Pan.reveal', pan, () => [], { holds: ['PAN', 'PAN digits of a block'], pure: true }),
  method('Pan.masked', pan, () => [], { pure: true }),
  method('Pan.toString', pan, () => [], { pure: true }),
  method('Pan.toJSON', pan, () => [], { pure: true }),

  method(
    'Backend.bind',
    ({ backend }) => backend,
    ({ options }) => [
      { kid: 'STORE', usage: 'pin-encryption', algorithm: 'tdea-2key', hostDecipher: true },
      options,
    ],
    { names: ['kid'] },
  ),
  method(
    'KeyOperations.encipher',
    ({ keys }) => operationsOf(keys.store),
    ({ options }) => [bytes(secret.clearBlock), options],
    { holds: ['stored block'] },
  ),
  method(
    'KeyOperations.decipher',
    ({ keys }) => operationsOf(keys.store),
    ({ options }) => [bytes(secret.storedBlock), options],
    { holds: ['clear block'] },
  ),
  method(
    'KeyOperations.decipherVariant',
    ({ keys }) => operationsOf(keys.kbpk),
    ({ options }) => [new Uint8Array(16).fill(0x45), bytes(secret.otherInfo).slice(0, 16), options],
    { pure: true },
  ),
  method(
    'KeyOperations.encipherBound',
    ({ keys }) => operationsOf(keys.aes),
    ({ options }) => [twice(secret.clearBlock), new Uint8Array(16), options],
  ),
  method(
    'KeyOperations.decipherBound',
    ({ keys }) => operationsOf(keys.aes),
    ({ options }) => [twice(secret.storedBlock), new Uint8Array(16), options],
  ),
  method(
    'KeyOperations.reencipher',
    ({ keys }) => operationsOf(keys.store),
    ({ keys, options }) => [keys.zpk, bytes(secret.storedBlock), options],
    { holds: ['shared block'] },
  ),
  method(
    'KeyOperations.verifyPin',
    ({ keys }) => operationsOf(keys.store),
    ({ keys, pan, options }) => [
      keys.zpk,
      {
        block: bytes(secret.storedBlock),
        format: 0,
        pan: panDigits(pan),
        rule: { kind: 'block', format: 0 },
        kept: bytes(secret.sharedBlock),
      },
      options,
    ],
  ),
  method(
    'KeyOperations.mac',
    ({ keys }) => operationsOf(keys.mac),
    ({ options }) => [
      { algorithm: 'iso9797-1-alg3', padding: 2, iv: new Uint8Array(8) },
      bytes(secret.clearBlock),
      options,
    ],
  ),
  method(
    'KeyOperations.deriveContentKey',
    ({ keys }) => operationsOf(keys.jwe),
    ({ options }) => [request(), options],
    { holds: ['content key'] },
  ),
  method(
    'KeyOperations.openContent',
    ({ keys }) => operationsOf(keys.jwe),
    ({ options }) => [
      request(),
      {
        aad: new Uint8Array(3),
        iv: new Uint8Array(12),
        ciphertext: new Uint8Array(16).fill(0x45),
        tag: new Uint8Array(16),
      },
      options,
    ],
  ),
  method(
    'KeyOperations.sign',
    ({ keys }) => operationsOf(keys.sign),
    ({ options }) => [bytes(secret.clearBlock), options],
  ),
  method(
    'KeyOperations.randomBytes',
    ({ keys }) => operationsOf(keys.store),
    ({ options }) => [16, options],
    { names: ['0'] },
  ),
  method(
    'Backend.randomBytes',
    ({ backend }) => backend,
    ({ options }) => [16, options],
    { names: ['0'] },
  ),
  method(
    'Backend.capabilities',
    ({ backend }) => backend,
    () => [],
  ),
  method(
    'Backend.health',
    ({ backend }) => backend,
    ({ options }) => [options],
  ),
  method(
    'Key.toString',
    ({ keys }) => keys.store,
    () => [],
  ),
  verb(
    'openBackend',
    driver => core.openBackend(driver),
    () => [{}],
    { pure: true, refused: true },
  ),
  verb(
    'softwareBackend',
    options => software.softwareBackend(options),
    () => [{ keys: KEYS.map(({ hostDecipher: _, ...key }) => key), engine: 'auto' }],
    { pure: true, names: ['kid'] },
  ),
  verb(
    'softwareBackend',
    options => software.softwareBackend(options),
    () => [
      {
        keys: [
          {
            kid: 'JWE',
            usage: 'jwe-key-agreement',
            algorithm: 'ec-p256',
            material: Buffer.from(secret.jwe.d, 'base64url').toString('hex'),
          },
        ],
        engine: 'node-forge',
      },
    ],
    { pure: true, names: ['kid'] },
  ),

  verb(
    'encipherPin',
    core.encipherPin,
    ({ keys, options }) => [{ pin: pin(), pan: pan(), format: 0, key: keys.store }, options],
    { holds: ['stored block'] },
  ),
  verb(
    'encipherPins',
    core.encipherPins,
    ({ keys, options }) => [{ pins: [{ pin: pin(), pan: pan() }], format: 0, key: keys.store }, options],
    { holds: ['stored block'] },
  ),
  verb('encipherPins', core.encipherPins, ({ keys, options }) => [
    { pins: [1, 2].map(() => ({ pin: pin(), pan: pan() })), format: 4, key: keys.aes },
    options,
  ]),
  verb('decipherPin', core.decipherPin, ({ keys, options }) => [
    { block: bytes(secret.storedBlock), pan: pan(), format: 0, key: keys.store },
    options,
  ]),
  verb('decipherPin', core.decipherPin, ({ keys, options }) => [
    { block: bytes(secret.aesBlock), pan: pan(), format: 4, key: keys.aes },
    options,
  ]),
  verb('translatePinBlocks', core.translatePinBlocks, ({ keys, options }) => [
    {
      blocks: [1, 2].map(() => ({ block: bytes(secret.storedBlock), pan: pan() })),
      fromFormat: 0,
      toFormat: 4,
      from: keys.store,
      to: keys.aes,
    },
    options,
  ]),
  verb(
    'translatePinBlocks',
    core.translatePinBlocks,
    ({ keys, options }) => [
      {
        blocks: [1, 2].map(() => ({ block: bytes(secret.aesBlock), pan: pan() })),
        fromFormat: 4,
        toFormat: 0,
        from: keys.aes,
        to: keys.store,
      },
      options,
    ],
    { holds: ['stored block'] },
  ),
  verb(
    'translatePinBlock',
    core.translatePinBlock,
    world => [{ ...move(world), pan: pan(), fromFormat: 0, toFormat: 0 }, world.options],
    { holds: ['shared block'] },
  ),
  verb(
    'translatePinBlocks',
    core.translatePinBlocks,
    world => {
      const { block, ...way } = move(world)
      return [{ ...way, blocks: [{ block, pan: pan() }], fromFormat: 0, toFormat: 0 }, world.options]
    },
    { holds: ['shared block'] },
  ),
  verb(
    'rePanPinBlock',
    core.rePanPinBlock,
    world => [{ ...move(world), pan: pan(), newPan: pan(), fromFormat: 0, toFormat: 0 }, world.options],
    { holds: ['shared block'] },
  ),
  verb('reencipherPinBlock', core.reencipherPinBlock, world => [move(world), world.options], {
    holds: ['shared block'],
  }),
  verb('pinPolicy', core.pinPolicy, () => [{ minLength: 4, maxLength: 12, refuse: ['runs'], list: [] }], {
    pure: true,
  }),
  verb('judgePin', core.judgePin, () => [{ pin: pin(), policy: POLICY }], { pure: true }),
  verb('generatePin', core.generatePin, ({ backend, options }) => [
    { length: 4, policy: POLICY, backend },
    options,
  ]),
  verb('generatePinBlock', core.generatePinBlock, ({ backend, keys, options }) => [
    { length: 4, policy: POLICY, backend, pan: pan(), format: 0, key: keys.store },
    options,
  ]),
  verb('generatePvv', core.generatePvv, world => [
    { ...blockValue(world), key: world.keys.pvk },
    world.options,
  ]),
  verb('generateOffset', core.generateOffset, world => [
    { ...blockValue(world), key: world.keys.offset },
    world.options,
  ]),
  verb('naturalPin', core.naturalPin, ({ keys, options }) => [
    { pan: pan(), key: keys.offset, length: 4, format: 0, to: keys.store },
    options,
  ]),
  ...Object.values(REFERENCES).map(against =>
    verb('verifyPinBlock', core.verifyPinBlock, world => [
      { ...blockValue(world), against: against(world), tries: 'counted-elsewhere' },
      world.options,
    ]),
  ),
  verb(
    'TryCounter',
    options => new core.TryCounter(options),
    () => [triesOptions()],
    { pure: true },
  ),
  method(
    'TryCounter.begin',
    () => new core.TryCounter(triesOptions()),
    () => [TRIED],
  ),
  method(
    'TryCounter.left',
    () => new core.TryCounter(triesOptions()),
    () => [TRIED],
  ),
  method(
    'TryCounter.unblock',
    () => new core.TryCounter(triesOptions()),
    () => [TRIED],
  ),
  verb('buildFormat0', core.buildFormat0, () => [{ pin: pin(), pan: pan() }], {
    holds: ['clear block'],
    pure: true,
  }),
  verb('parseFormat0', core.parseFormat0, () => [{ block: bytes(secret.clearBlock), pan: pan() }], {
    pure: true,
  }),
  verb('checkFormat0', core.checkFormat0, () => [{ block: bytes(secret.clearBlock), pan: pan() }], {
    pure: true,
  }),

  verb('generateMac', core.generateMac, ({ keys, options }) => [{ key: keys.mac, ...message }, options], {
    names: ['length'],
  }),
  verb(
    'generateMac',
    core.generateMac,
    ({ keys, options }) => [{ key: keys.cbc, ...message, algorithm: 'iso9797-1-alg1' }, options],
    { names: ['length'] },
  ),
  verb(
    'generateMac',
    core.generateMac,
    ({ keys, options }) => [{ key: keys.cmac, ...message, algorithm: 'cmac', padding: 'none' }, options],
    { names: ['length'] },
  ),
  verb(
    'verifyMac',
    core.verifyMac,
    ({ keys, options }) => [{ key: keys.mac, ...message, mac: bytes(secret.storedBlock) }, options],
    { names: ['length'] },
  ),

  verb('keyCheckValue', core.keyCheckValue, () => [carried()], { pure: true }),
  verb('splitKey', core.splitKey, () => [{ kid: 'SPLIT', ...carried(), parts: 2 }], {
    names: ['kid'],
    pure: true,
  }),
  verb(
    'combineComponents',
    core.combineComponents,
    async () => {
      const { components, checkValue } = await core.splitKey({ kid: 'SPLIT', ...carried(), parts: 2 })
      const { algorithm } = carried()
      const given = components.map(({ component, checkValue: kcv }) => ({ component, kcv }))
      return [{ kid: 'SPLIT', algorithm, components: given, kcv: checkValue, parity: 'report' }]
    },
    { holds: ['carried key'], names: ['kid'], pure: true },
  ),
  verb('readKeyBlockHeader', core.readKeyBlockHeader, async world => [await sealedBlock(world)], {
    pure: true,
  }),
  verb('sealKeyBlock', core.sealKeyBlock, world => [sealing(world), world.options]),
  verb(
    'openKeyBlock',
    core.openKeyBlock,
    async world => [
      { key: world.keys.kbpk, block: await sealedBlock(world), usage: 'cmac', mode: 'C' },
      world.options,
    ],
    { holds: ['carried key'] },
  ),
  verb('translateKeyBlock', core.translateKeyBlock, async world => [
    {
      from: world.keys.kbpk,
      to: world.keys.kbpk,
      block: await sealedBlock(world),
      usage: 'cmac',
      version: 'D',
    },
    world.options,
  ]),
  verb(
    'sealJwe',
    core.sealJwe,
    ({ options }) => [
      {
        plaintext: Buffer.from(content),
        recipient: d1Public,
        kid: 'D1',
        apu: bytes(secret.clearBlock).slice(0, 0),
      },
      options,
    ],
    { names: ['kid'] },
  ),
  verb(
    'openJwe',
    core.openJwe,
    ({ keys, options }) => [{ jwe: secret.sealed(content), keys: [keys.jwe] }, options],
    { holds: ['shared block'] },
  ),
  verb('importRecipient', core.importRecipient, () => [d1Public], { pure: true, names: ['kid'] }),

  verb('parseProfile', core.parseProfile, () => [JSON.parse(JSON.stringify(profile))], {
    pure: true,
    names: ['name', 'version', 'description', 'id'],
    echoes: ['iv', 'constant', 'pad'],
  }),
  verb('uncoveredBy', core.uncoveredBy, () => [{ profile, computation: 'prw' }], { pure: true }),
  verb('neededToVerify', core.neededToVerify, () => [profile], { pure: true }),
  verb('remarksOn', core.remarksOn, () => [profile], { pure: true }),
  verb('buildDataSet', core.buildDataSet, world => [{ profile, ...values(world) }], {
    holds: ['clear block', 'PAN', 'PAN digits of a block'],
    pure: true,
  }),
  verb(
    'maskDataSet',
    core.maskDataSet,
    world => [{ profile, full: core.buildDataSet({ profile, ...values(world) }) }],
    {
      pure: true,
    },
  ),
  verb(
    'unmaskDataSet',
    core.unmaskDataSet,
    world => [{ profile, dataSet: world.seccos.dataSet, ...values(world) }],
    {
      holds: ['clear block', 'PAN', 'PAN digits of a block'],
      pure: true,
    },
  ),
  verb('requireMasked', core.requireMasked, world => [{ profile, dataSet: world.seccos.dataSet }], {
    pure: true,
  }),
  verb(
    'requireMasked',
    core.requireMasked,
    world => [{ profile, dataSet: core.buildDataSet({ profile, ...values(world) }) }],
    {
      pure: true,
      refused: true,
    },
  ),
  verb('readDataSet', core.readDataSet, world => [{ profile, dataSet: world.seccos.dataSet }], {
    pure: true,
  }),
  verb('dataSetToHex', core.dataSetToHex, world => [world.seccos.dataSet], { pure: true }),
  verb('dataSetFromHex', core.dataSetFromHex, world => [core.dataSetToHex(world.seccos.dataSet)], {
    pure: true,
  }),
  verb(
    'computePrw',
    core.computePrw,
    world => [{ ...values(world), key: world.keys.prwG, profile }, world.options],
    { names: ['issuer'] },
  ),
  verb('computePrw', core.computePrw, world => {
    const { random: _, ...rest } = values(world)
    return [{ ...rest, key: world.keys.prwG, profile }, world.options]
  }),
  verb('verifyPrw', core.verifyPrw, world => [{ ...prw(world), key: world.keys.prwV }, world.options], {
    names: ['issuer'],
  }),
  verb('generatePrwMac', core.generatePrwMac, world => [prwMac(world), world.options]),
  verb('verifyPrwMac', core.verifyPrwMac, world => [
    { ...prwMac(world), macValue: world.seccos.macValue },
    world.options,
  ]),
  verb(
    'requestFingerprint',
    core.requestFingerprint,
    () => [{ prwValue: secret.clearBlock.toString('hex'), kid: 'PRW' }],
    { pure: true },
  ),

  verb(
    'ChangeCounter',
    options => new core.ChangeCounter(options),
    ({ backend }) => [
      {
        store: core.memoryStore(),
        backend,
        firstPcc: '0001',
        rule: 'increment-on-accept',
        wrap: 'refuse',
        ttlSeconds: 60,
      },
    ],
    { pure: true },
  ),
  method(
    'ChangeCounter.issue',
    ({ backend }) => newCounter(backend),
    ({ options }) => [{ cardId: 'card-1' }, options],
  ),
  method(
    'ChangeCounter.check',
    ({ counter }) => counter,
    () => [
      { cardId: 'card-1', intdatag: 'TAG-0123456789-ABCDE', pcc: '0042', fingerprint: new Uint8Array(32) },
    ],
    { refused: true },
  ),
  method(
    'ChangeCounter.pccOf',
    ({ counter }) => counter,
    () => [{ cardId: 'card-1', intdatag: 'TAG-0123456789-ABCDE' }],
    { refused: true },
  ),
  method(
    'ChangeCounter.supersede',
    ({ counter }) => counter,
    () => [{ cardId: 'card-1', skip: 0 }],
  ),
  method(
    'ChangeCounter.supersedeAll',
    ({ counter }) => counter,
    ({ options }) => [{ skip: 0 }, options],
  ),
  method(
    'ChangeCounter.restart',
    ({ counter }) => counter,
    () => [{ cardId: 'card-1', pcc: '0042' }],
    { refused: true },
  ),
  method(
    'ChangeCounter.accept',
    ({ counter }) => counter,
    ({ options }) => [
      {
        request: {
          cardId: 'card-1',
          intdatag: 'TAG-0123456789-ABCDE',
          pcc: '0042',
          fingerprint: new Uint8Array(32),
        },
        store: async () => {},
      },
      options,
    ],
    { refused: true },
  ),
  method(
    'ChangeCounter.purge',
    ({ counter }) => counter,
    () => [],
  ),
  verb('memoryStore', core.memoryStore, () => [], { pure: true }),

  verb(
    'inspectDataSet',
    tools.inspectDataSet,
    world => [{ profile, prwDataSet: core.dataSetToHex(world.seccos.dataSet) }],
    {
      pure: true,
    },
  ),
  verb(
    'inspectDataSet',
    tools.inspectDataSet,
    world => [{ profile, prwDataSet: core.dataSetToHex(core.buildDataSet({ profile, ...values(world) })) }],
    { pure: true },
  ),
  verb('drawProfile', tools.drawProfile, () => [profile], { pure: true }),
  verb('inspectJweHeader', tools.inspectJweHeader, () => [secret.sealed(content)], { pure: true }),
  verb(
    'inspectPinBlock',
    tools.inspectPinBlock,
    () => [{ block: bytes(secret.clearBlock), state: 'clear' }],
    {
      pure: true,
    },
  ),
  verb(
    'inspectPinBlock',
    tools.inspectPinBlock,
    () => [{ block: bytes(secret.storedBlock), state: 'enciphered' }],
    {
      pure: true,
    },
  ),
  verb('isIssuerPinError', core.isIssuerPinError, () => [new Error(secret.pin)], { pure: true }),
  verb(
    'searchProfile',
    tools.searchProfile,
    world => {
      const { known: _, ...sample } = probeSample(world)
      const { fields, randomBytes } = profile
      const told = ({ algorithm, padding, iv, inputs }: typeof profile.prw) => ({
        algorithm,
        padding,
        iv,
        inputs,
      })
      return [
        {
          samples: [sample],
          // Told everything: without a limit, which a wrong call may come without, it would go on for minutes.
          known: { fields, randomBytes, prw: told(profile.prw), mac: told(profile.mac) },
          timeLimitMs: 1,
          prwTestKey: bytes(secret.keys['PRW key']),
          macTestKey: bytes(secret.keys['retail MAC key']),
        },
      ]
    },
    { pure: true, slow: true },
  ),
  verb(
    'checkProfile',
    tools.checkProfile,
    world => {
      const { known: _, ...sample } = probeSample(world)
      return [
        {
          profile,
          samples: [sample],
          prwTestKey: bytes(secret.keys['PRW key']),
          macTestKey: bytes(secret.keys['retail MAC key']),
        },
      ]
    },
    { pure: true, slow: true },
  ),
  verb(
    'probeProfile',
    tools.probeProfile,
    world => [
      {
        samples: [probeSample(world)],
        prwTestKey: bytes(secret.keys['PRW key']),
        macTestKey: bytes(secret.keys['retail MAC key']),
      },
    ],
    { pure: true, slow: true },
  ),
]

const probeSample = ({ seccos }: World) => ({
  pan: pan(),
  pin: pin(),
  pcc: seccos.pcc,
  intdatag: seccos.intdatag,
  random: seccos.random,
  prwDataSet: core.dataSetToHex(seccos.dataSet),
  prwValue: seccos.prwValue,
  macValue: seccos.macValue,
  known: { psn: FIELDS.psn },
})

/** Exports that are no verbs, and why. */
export const NO_VERBS: Readonly<Record<string, string>> = {
  serverLimits: 'limits for a server',
  AbortedError: 'an error class',
  ArgumentError: 'an error class',
  BackendError: 'an error class',
  ChangeCounterError: 'an error class',
  D1ClientError: 'an error class',
  D1MessageError: 'an error class',
  DataSetError: 'an error class',
  InputError: 'an error class',
  IssuerPinError: 'an error class',
  JweError: 'an error class',
  KeyBlockError: 'an error class',
  KeyError: 'an error class',
  Pkcs11Error: 'an error class',
  operationLimit: 'takes numbers and kids',
  createTestIssuer: 'takes nothing; its keys are published',
  PinBlockError: 'an error class',
  PinPolicyError: 'an error class',
  ProfileError: 'an error class',
  PrwMacError: 'an error class',
  TranslationError: 'an error class',
  DATA_SET_BYTES: 'a constant',
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD: 'a constant',
  ILLUSTRATIVE_NOT_GIROCARD_AES: 'a constant',
  ILLUSTRATIVE_NOT_GIROCARD_TDEA: 'a constant',
  TRANSLATIONS: 'a constant',
  USAGES: 'a constant',
  CONTRACT_KEYS: 'a constant: public test keys',
  backendContract: 'a list of tests, which assert it themselves',
  changeCounterStoreContract: 'a list of tests; no secret is given to a store',
  issuerStoreContract: 'a list of tests, with cards of its own',
}
