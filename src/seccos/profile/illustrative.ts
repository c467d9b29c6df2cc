/**
 * Three profiles that were made up for this library, to show and test the mechanism.
 *
 * They are NOT the girocard algorithm, nor that of any other scheme: neither the layout of the data set nor the choice
 * of algorithms, inputs or padding comes from one. Values made with them mean nothing to a scheme, a terminal or D1. An
 * issuer writes its own profile from the documents it holds.
 */
import { parseProfile } from './parse.js'
import type { SeccosProfile } from './profile.js'

/**
 * Illustrative, NOT the girocard algorithm: TDEA retail MAC (ISO/IEC 9797-1 algorithm 3, padding 2) with 16-byte keys;
 * the PRW over the full data set, its MAC over the masked data set and the PRW; 8 bytes each, as 16 hex digits.
 *
 * @example
 * ```ts
 * const prw = await computePrw({ key, profile: ILLUSTRATIVE_NOT_GIROCARD_TDEA, pin, pan, pcc, intdatag, fields })
 * ```
 */
export const ILLUSTRATIVE_NOT_GIROCARD_TDEA: SeccosProfile = parseProfile({
  profileFormat: 1,
  name: 'illustrative-NOT-girocard-tdea-retail-mac',
  version: '1.0.0',
  provenance: 'illustrative',
  description:
    'Invented for tests and demonstrations. Not the girocard algorithm, nor that of any other scheme.',
  pinBlock: 'iso9564-format-0',
  randomBytes: 4,
  fields: [
    { id: 'layout', offset: 0, length: 1, constant: '01' },
    { id: 'pan', offset: 1, length: 10, encoding: 'bcd', align: 'left', pad: 'F', masked: true },
    { id: 'psn', offset: 11, length: 1, encoding: 'bcd', align: 'exact', masked: false },
    { id: 'expiry', offset: 12, length: 2, encoding: 'bcd', align: 'exact', masked: false },
    { id: 'pcc', offset: 14, length: 2, encoding: 'bcd', align: 'exact', masked: false },
    { id: 'pinBlock', offset: 16, length: 8, encoding: 'binary', align: 'exact', masked: true },
    { id: 'random', offset: 24, length: 4, encoding: 'binary', align: 'exact', masked: false },
    { id: 'issuer', offset: 28, length: 10, encoding: 'ascii', align: 'left', pad: '20', masked: false },
    { id: 'intdatag', offset: 38, length: 20, encoding: 'ascii', align: 'exact', masked: false },
    { id: 'filler', offset: 58, length: 65, constant: '00'.repeat(65) },
  ],
  prw: {
    algorithm: 'iso9797-1-alg3',
    padding: 2,
    iv: '0000000000000000',
    keyBytes: 16,
    inputs: [{ input: 'dataSet.full' }],
    outputBytes: 8,
    text: 'hex-upper',
    uncovered: [],
  },
  mac: {
    algorithm: 'iso9797-1-alg3',
    padding: 2,
    iv: '0000000000000000',
    keyBytes: 16,
    inputs: [{ input: 'dataSet.masked' }, { input: 'prw', form: 'binary' }],
    outputBytes: 8,
    text: 'hex-upper',
    uncovered: ['pan', 'pinBlock'],
  },
})

/**
 * Illustrative, NOT the girocard algorithm: AES-CMAC with 16-byte keys. The PRW, 16 bytes, covers the full data set
 * and the PIN, which is not in it; the MAC, 8 bytes, the masked data set, the intdatag and the text of the PRW.
 *
 * @example
 * ```ts
 * const prw = await computePrw({ key, profile: ILLUSTRATIVE_NOT_GIROCARD_AES, pin, pan, pcc, intdatag, fields })
 * ```
 */
export const ILLUSTRATIVE_NOT_GIROCARD_AES: SeccosProfile = parseProfile({
  profileFormat: 1,
  name: 'illustrative-NOT-girocard-aes-cmac',
  version: '1.0.0',
  provenance: 'illustrative',
  description:
    'Invented for tests and demonstrations. Not the girocard algorithm, nor that of any other scheme.',
  pinBlock: 'digits-bcd',
  randomBytes: 8,
  fields: [
    { id: 'layout', offset: 0, length: 2, constant: 'A502' },
    { id: 'issuer', offset: 2, length: 10, encoding: 'ebcdic', align: 'left', pad: '40', masked: false },
    { id: 'pan', offset: 12, length: 19, encoding: 'ebcdic', align: 'right', pad: '40', masked: true },
    { id: 'psn', offset: 31, length: 3, encoding: 'ebcdic', align: 'right', pad: 'F0', masked: false },
    { id: 'expiry', offset: 34, length: 4, encoding: 'ascii', align: 'exact', masked: false },
    { id: 'pinLength', offset: 38, length: 1, encoding: 'binary', align: 'exact', masked: true },
    { id: 'pcc', offset: 39, length: 4, encoding: 'binary', align: 'exact', masked: false },
    { id: 'cardData', offset: 43, length: 16, encoding: 'binary', align: 'right', pad: '00', masked: false },
    { id: 'random', offset: 59, length: 8, encoding: 'binary', align: 'exact', masked: false },
    { id: 'filler', offset: 67, length: 56, constant: '00'.repeat(56) },
  ],
  prw: {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    inputs: [{ input: 'dataSet.full' }, { input: 'pinBlock' }],
    outputBytes: 16,
    text: 'hex-upper',
    uncovered: ['intdatag'],
  },
  mac: {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    inputs: [
      { input: 'dataSet.masked' },
      { input: 'intdatag', length: 20, encoding: 'ascii', align: 'exact' },
      { input: 'prw', form: 'text' },
    ],
    outputBytes: 8,
    text: 'hex-upper',
    uncovered: ['pan', 'pinBlock', 'pinLength'],
  },
})

/**
 * Illustrative, NOT the girocard algorithm: the PRW in the shape in which IBM's manuals describe it in public for the verbs
 * of Deutsche Kreditwirtschaft: AES-CMAC over PAN data, card data that stays and card data that changes, PIN length, PIN
 * and a random number of 4 bytes; 16 bytes. Which bytes each of them is, those manuals do not say: layout, encodings and
 * the MAC are made up. `cardStays` and `cardChanges` are the issuer's own, and verifying takes them too.
 *
 * @example
 * ```ts
 * const fields = { psn: '01', cardStays: '01', cardChanges: '2812' }
 * const prw = await computePrw({ key, profile: ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD, pin, pan, pcc, intdatag, fields })
 * ```
 */
export const ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD: SeccosProfile = parseProfile({
  profileFormat: 2,
  name: 'illustrative-IBM-shaped-NOT-girocard',
  version: '1.0.0',
  provenance: 'illustrative',
  description:
    'In the shape of a public description, all bytes made up. Not the girocard algorithm, nor that of any other scheme.',
  pinBlock: { digits: 'bcd', length: 6, align: 'left', pad: 'F' },
  randomBytes: 4,
  external: [
    { id: 'cardStays', kind: 'text' },
    { id: 'cardChanges', kind: 'text' },
  ],
  fields: [
    { id: 'layout', offset: 0, length: 1, constant: '03' },
    { id: 'pan', offset: 1, length: 10, encoding: 'bcd', align: 'left', pad: 'F', masked: true },
    { id: 'psn', offset: 11, length: 1, encoding: 'bcd', align: 'exact', masked: false },
    { id: 'pcc', offset: 12, length: 2, encoding: 'bcd', align: 'exact', masked: false },
    { id: 'random', offset: 14, length: 4, encoding: 'binary', align: 'exact', masked: false },
    { id: 'intdatag', offset: 18, length: 20, encoding: 'ascii', align: 'exact', masked: false },
    { id: 'filler', offset: 38, length: 85, constant: '00'.repeat(85) },
  ],
  prw: {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    inputs: [
      { input: 'pan', length: 10, encoding: 'bcd', align: 'left', pad: 'F' },
      { input: 'external', id: 'cardStays', length: 2, encoding: 'ascii', align: 'exact' },
      { input: 'external', id: 'cardChanges', length: 4, encoding: 'ascii', align: 'exact' },
      { input: 'pinLength', length: 1, encoding: 'binary', align: 'exact' },
      { input: 'pinBlock' },
      { input: 'random' },
    ],
    outputBytes: 16,
    text: 'hex-upper',
    uncovered: ['pcc', 'intdatag', 'psn'],
  },
  mac: {
    algorithm: 'cmac-aes',
    padding: 'none',
    iv: 'none',
    keyBytes: 16,
    inputs: [{ input: 'dataSet.masked' }, { input: 'prw', form: 'binary' }],
    outputBytes: 8,
    text: 'hex-upper',
    uncovered: ['pan', 'pinBlock', 'cardStays', 'cardChanges'],
  },
})
