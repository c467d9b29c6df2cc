/** Values that fit the two illustrative profiles (invented, not those of a scheme), and data sets made of them. */
import {
  buildDataSet,
  type DataSetValues,
  maskDataSet,
  Pan,
  Pin,
  type SeccosProfile,
} from '../../../src/index.js'
import { ILLUSTRATIVE_NOT_GIROCARD_AES, ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../../src/tools.js'

export const PAN_DIGITS = '5413330089604111'
export const PIN_DIGITS = '739204'
export const INTDATAG = 'D1-TAG-0123456789-AB'
export const SECRET_VALUES = { pan: Pan.from(PAN_DIGITS), pin: Pin.from(PIN_DIGITS) }

const CARD = { ...SECRET_VALUES, pcc: '0042', intdatag: INTDATAG }
const TDEA_VALUES: DataSetValues = {
  ...CARD,
  random: Uint8Array.of(0xde, 0xad, 0, 0x42),
  fields: { psn: '01', expiry: '2812', issuer: 'is_tbank01' },
}
const AES_VALUES: DataSetValues = {
  ...CARD,
  random: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  fields: { psn: '1', expiry: '2812', issuer: 'is_tbank01', cardData: Uint8Array.of(0xca, 0xfe) },
}

export const PROFILES: readonly SeccosProfile[] = [
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
]
/** A masked data set by each. */
export const MASKED: readonly Uint8Array[] = [TDEA_VALUES, AES_VALUES].map((values, i) => {
  const profile = PROFILES[i] as SeccosProfile
  return maskDataSet({ profile, full: buildDataSet({ profile, ...values }) })
})
