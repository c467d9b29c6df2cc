/** The object inside the JWE of a Set PIN request of type 3DES_SECCOS (Outbound PIN Management API 1.0), pure. */
import { readMessage, readString, type StringRule } from './fields.js'

/** What the JWE of a `3DES_SECCOS` message holds, as D1 sends it. */
export interface SeccosContent {
  /** 20 characters: which Get PIN Change Counter this answers. */
  readonly intdatag: string
  /** 246 upper-case hex digits: the 123 bytes of the data set, PAN zeroed. */
  readonly prwDataSet: string
  /** At most 64 characters. */
  readonly prwValue: string
  readonly prwKid: string
  /** At most 16 characters. */
  readonly macValue: string
  readonly macKid: string
}

/** Stricter than the published schema: every member is required, the pattern of `prwDataSet` is anchored. */
const RULES: Readonly<Record<keyof SeccosContent, StringRule>> = {
  intdatag: { min: 20, max: 20, pattern: { test: /^[\x20-\x7e]*$/, shape: 'printable ASCII' } },
  prwDataSet: { max: 246, pattern: { test: /^[0-9A-F]{246}$/, shape: '246 upper-case hex digits' } },
  prwValue: { max: 64 },
  prwKid: { max: 128 },
  macValue: { max: 16 },
  macKid: { max: 128 },
}

/**
 * Reads the opened JWE of a 3DES_SECCOS message. Errors: `ERR_D1_MESSAGE` with `field` `encryptedPinBlock` or the name
 * of the member. Source: Outbound PIN Management API 1.0, schema pinblock3DESSECCOS.
 */
export function readSeccosContent(plaintext: Uint8Array): SeccosContent {
  const object = readMessage(plaintext, 'encryptedPinBlock')
  const read = (field: keyof SeccosContent): string => readString(object, field, RULES[field])
  return {
    intdatag: read('intdatag'),
    prwDataSet: read('prwDataSet'),
    prwValue: read('prwValue'),
    prwKid: read('prwKid'),
    macValue: read('macValue'),
    macKid: read('macKid'),
  }
}
