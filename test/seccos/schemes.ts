/** Eight invented schemes as profiles of format 2, and the samples that `samples.py` computed for them without a profile. */
import { readFileSync } from 'node:fs'
import { Pan } from '../../src/primitives/pan.js'
import { Pin } from '../../src/primitives/pin.js'
import type { DataSetValues } from '../../src/seccos/field-value.js'

const exact = { align: 'exact' } as const
const PAN = { encoding: 'bcd', length: 10, align: 'left', pad: 'F' } as const
const filler = (offset: number) => ({
  id: 'filler',
  offset,
  length: 123 - offset,
  constant: '00'.repeat(123 - offset),
})
const FIELDS = [
  { id: 'pan', offset: 0, ...PAN, masked: true },
  { id: 'psn', offset: 10, length: 1, encoding: 'bcd', ...exact, masked: false },
  { id: 'pcc', offset: 11, length: 2, encoding: 'bcd', ...exact, masked: false },
  { id: 'random', offset: 13, length: 8, encoding: 'binary', ...exact, masked: false },
  { id: 'intdatag', offset: 21, length: 20, encoding: 'ascii', ...exact, masked: false },
  filler(41),
]
const HEAD = {
  profileFormat: 2,
  version: '1.0.0',
  provenance: 'illustrative',
  pinBlock: 'digits-bcd',
  randomBytes: 8,
  fields: FIELDS,
}
const RETAIL = {
  algorithm: 'iso9797-1-alg3',
  padding: 2,
  iv: '0'.repeat(16),
  keyBytes: 16,
  outputBytes: 8,
} as const
const CMAC = { algorithm: 'cmac-aes', padding: 'none', iv: 'none', keyBytes: 16 } as const
const HMAC = { algorithm: 'hmac-sha256', padding: 'none', iv: 'none', keyBytes: 32 } as const
const HEX = { text: 'hex-upper' } as const
const MASKED = { input: 'dataSet.masked' } as const
const PRW = { input: 'prw', form: 'binary' } as const
const PCC = { input: 'pcc', length: 2, encoding: 'bcd', ...exact } as const
const REST = { uncovered: ['pan', 'pinBlock'] }

/** By the name of the scheme in samples.json; as JSON, before parsing. */
export const SCHEMES = {
  derived: {
    ...HEAD,
    name: 'test-derived-keys',
    prw: {
      ...RETAIL,
      ...HEX,
      derivation: [
        {
          method: 'encipher',
          inputs: [
            {
              input: 'pan',
              length: 7,
              encoding: 'bcd',
              align: 'right',
              pad: '0',
              part: { from: 'right', skip: 0, take: 14 },
            },
            { input: 'field', id: 'psn' },
          ],
          complement: true,
        },
        {
          method: 'encipher',
          inputs: [
            PCC,
            { input: 'constant', constant: 'F00000000000' },
            PCC,
            { input: 'constant', constant: '0F0000000000' },
          ],
          complement: false,
        },
      ],
      inputs: [MASKED, { input: 'pinBlock' }],
      uncovered: ['pan'],
    },
    mac: {
      ...CMAC,
      ...HEX,
      derivation: [
        {
          method: 'cmac-counter',
          counterBytes: 2,
          inputs: [
            { input: 'constant', constant: '4D414300' },
            { input: 'field', id: 'psn' },
          ],
        },
        { method: 'xor', mask: 'C0'.repeat(16) },
      ],
      inputs: [MASKED, PRW],
      outputBytes: 8,
      ...REST,
    },
  },
  external: {
    ...HEAD,
    name: 'test-external-inputs',
    external: [
      { id: 'cdp', kind: 'bytes' },
      { id: 'cdt', kind: 'text' },
    ],
    prw: {
      ...CMAC,
      ...HEX,
      inputs: [
        { input: 'pan', length: 19, encoding: 'ascii', align: 'left', pad: '20' },
        { input: 'external', id: 'cdp', length: 2, encoding: 'binary', ...exact },
        { input: 'external', id: 'cdt', length: 4, encoding: 'ascii', ...exact },
        { input: 'pinLength', length: 1, encoding: 'binary', ...exact },
        { input: 'pinBlock' },
        { input: 'random' },
      ],
      outputBytes: 16,
      uncovered: ['pcc', 'intdatag', 'psn', 'prwKid', 'issuerId'],
    },
    mac: {
      ...RETAIL,
      ...HEX,
      padding: 1,
      inputs: [
        MASKED,
        { input: 'prwKid', length: 16, encoding: 'ascii', align: 'left', pad: '00' },
        { input: 'issuerId', length: 10, encoding: 'ebcdic', ...exact },
        { input: 'prw', form: 'text' },
      ],
      uncovered: ['pan', 'pinBlock', 'cdp', 'cdt'],
    },
  },
  forms: {
    ...HEAD,
    name: 'test-pin-forms',
    pinBlock: { iso9564: 1, filler: 'random' },
    prw: {
      ...RETAIL,
      ...HEX,
      algorithm: 'iso9797-1-alg1',
      inputs: [
        { input: 'pinBlock' },
        { input: 'pinBlock', pinForm: { digits: 'ebcdic', length: 12, align: 'right', pad: 'F0' } },
        { input: 'pinBlock', pinForm: { iso9564: 3, filler: 'A' } },
        { input: 'pinBlock', pinForm: { iso9564: 4, filler: 'random' } },
        { input: 'pan', length: 19, encoding: 'ascii', align: 'right', pad: '30' },
      ],
      uncovered: ['pcc', 'intdatag', 'random', 'psn'],
    },
    mac: { ...RETAIL, ...HEX, inputs: [MASKED, { input: 'prw', form: 'text-ebcdic' }], ...REST },
  },
  parts: {
    ...HEAD,
    name: 'test-parts-and-masks',
    fields: [
      { id: 'pan', offset: 0, ...PAN, masked: { offset: 6, length: 6, fill: '0' } },
      {
        id: 'pan12',
        value: 'pan',
        offset: 10,
        length: 6,
        encoding: 'bcd',
        align: 'right',
        pad: '0',
        part: { from: 'right', skip: 1, take: 12 },
        masked: { offset: 0, length: 12, fill: 'F' },
      },
      { id: 'pcc', offset: 16, length: 4, encoding: 'binary-le', ...exact, masked: false },
      { id: 'intdatag', offset: 20, length: 20, encoding: 'ebcdic-273', ...exact, masked: false },
      { id: 'random', offset: 40, length: 8, encoding: 'binary', ...exact, masked: false },
      filler(48),
    ],
    prw: {
      ...CMAC,
      ...HEX,
      inputs: [{ input: 'dataSet.full' }, { input: 'pinBlock' }],
      outputBytes: 16,
      uncovered: [],
    },
    mac: {
      ...CMAC,
      ...HEX,
      inputs: [
        { input: 'dataSet.masked', part: { from: 'left', skip: 10 } },
        {
          input: 'pan',
          length: 13,
          encoding: 'ascii',
          align: 'right',
          pad: '30',
          part: { from: 'left', skip: 6 },
        },
        { input: 'prw', form: 'binary', part: { from: 'left', skip: 4, take: 8 } },
      ],
      outputBytes: 8,
      uncovered: ['pan', 'pinBlock', 'pcc', 'intdatag', 'random', 'pan12', 'prw'],
    },
  },
  enciphered: {
    ...HEAD,
    name: 'test-prw-by-encipherment',
    prw: {
      ...HEX,
      algorithm: 'aes-cbc',
      padding: 2,
      iv: '000102030405060708090A0B0C0D0E0F',
      keyBytes: 16,
      inputs: [{ input: 'pinBlock' }, { input: 'pan', ...PAN }],
      outputBytes: 32,
      uncovered: ['pcc', 'intdatag', 'random', 'psn'],
    },
    mac: { ...CMAC, ...HEX, inputs: [MASKED, PRW], outputBytes: 8, ...REST },
  },
  hashed: {
    ...HEAD,
    name: 'test-digests',
    prw: {
      ...RETAIL,
      ...HEX,
      algorithm: 'cmac-tdea',
      padding: 'none',
      iv: 'none',
      inputs: [
        MASKED,
        { input: 'enciphered', mode: 'ecb', iv: 'none', padding: 1, inputs: [{ input: 'pinBlock' }] },
      ],
      digest: 'sha-256',
      uncovered: ['pan'],
    },
    mac: {
      ...RETAIL,
      ...HEX,
      algorithm: 'iso9797-1-alg1',
      padding: 1,
      inputs: [MASKED, PRW],
      digest: 'sha-1',
      ...REST,
    },
  },
  outputs: {
    ...HEAD,
    name: 'test-icv-and-outputs',
    prw: {
      ...RETAIL,
      algorithm: 'iso9797-1-alg1',
      iv: { inputs: [{ input: 'random' }] },
      inputs: [MASKED, { input: 'pinBlock' }, { input: 'pan', ...PAN }],
      output: [{ step: 'fold' }, { step: 'decimalise', digits: 8, table: '0123456789012345' }],
      text: 'digits',
      uncovered: [],
    },
    mac: {
      ...RETAIL,
      inputs: [MASKED, { input: 'prw', form: 'text' }],
      output: [{ step: 'slice', part: { from: 'right', skip: 0, take: 3 } }],
      outputBytes: 3,
      text: 'hex-ebcdic',
      ...REST,
    },
  },
  keyed: {
    ...HEAD,
    name: 'test-hmac',
    prw: { ...HMAC, ...HEX, inputs: [MASKED, { input: 'pinBlock' }], outputBytes: 32, uncovered: ['pan'] },
    mac: { ...HMAC, ...HEX, inputs: [MASKED, PRW], outputBytes: 8, ...REST },
  },
} as const

/** One sample, as samples.py prints it. */
export interface Sample {
  readonly pan: string
  readonly psn: string
  readonly pin: string
  readonly pcc: string
  readonly intdatag: string
  readonly random: string
  readonly cdp: string
  readonly cdt: string
  readonly prwDataSet: string
  readonly prwValue: string
  readonly macValue: string
}

/** The samples of every scheme, three of each. */
export const SAMPLES = JSON.parse(readFileSync(new URL('samples.json', import.meta.url), 'utf8')) as Readonly<
  Record<keyof typeof SCHEMES, readonly Sample[]>
>

/** The values of a sample; own fields and external values are those that the scheme has. */
export function valuesOf(scheme: keyof typeof SCHEMES, sample: Sample) {
  const own = scheme === 'parts' ? {} : { psn: sample.psn }
  const card = { cdp: Uint8Array.from(Buffer.from(sample.cdp, 'hex')), cdt: sample.cdt }
  return {
    pan: Pan.from(sample.pan),
    pin: Pin.from(sample.pin),
    pcc: sample.pcc,
    intdatag: sample.intdatag,
    random: Uint8Array.from(Buffer.from(sample.random, 'hex')),
    prwKid: 'PRW-KEY',
    issuerId: 'is_tbank01',
    fields: { ...own, ...(scheme === 'external' && card) },
  } satisfies DataSetValues
}
