/** What the inspector's page does: reads what was typed, asks the library's own inspector, shows its text. */
import { isIssuerPinError } from '../../src/base/errors.js'
import { Pan } from '../../src/primitives/pan.js'
import {
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
} from '../../src/seccos/profile/illustrative.js'
import { inspectDataSet, inspectJweHeader, inspectPinBlock } from '../../src/tools/inspect/inspect.js'

const PROFILES = [
  ILLUSTRATIVE_NOT_GIROCARD_TDEA,
  ILLUSTRATIVE_NOT_GIROCARD_AES,
  ILLUSTRATIVE_IBM_SHAPED_NOT_GIROCARD,
]
const element = id => document.getElementById(id)
const typed = id => element(id).value.trim()

const INSPECTORS = {
  'pin-block': value => {
    const pan = typed('pan')
    return inspectPinBlock({
      block: bytesOf(value),
      state: typed('state'),
      ...(pan !== '' && { pan: Pan.from(pan) }),
    })
  },
  'data-set': value =>
    inspectDataSet({ profile: PROFILES[element('profile').selectedIndex], prwDataSet: value.toUpperCase() }),
  jwe: inspectJweHeader,
}

function bytesOf(hex) {
  if (!/^([0-9a-fA-F]{2})+$/.test(hex))
    throw new Error('the value is not hex: an even number of digits 0-9 and A-F')
  const bytes = new Uint8Array(new ArrayBuffer(hex.length / 2))
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)
  return bytes
}

function show() {
  try {
    element('result').textContent = INSPECTORS[typed('kind')](typed('value'))
  } catch (error) {
    element('result').textContent = isIssuerPinError(error)
      ? `${error.code}: ${error.message}`
      : error.message
  }
}

for (const { name } of PROFILES) element('profile').append(new Option(name))
element('kind').addEventListener('change', () => {
  element('of-block').hidden = typed('kind') !== 'pin-block'
  element('of-data-set').hidden = typed('kind') !== 'data-set'
  element('result').textContent = ''
})
element('inspect').addEventListener('click', show)
