/** The list of drawings: file name under docs/pictures, and what makes it. */
import { dashboard } from './dashboard.js'
import { getPin, setPin, setPinSeccos } from './flows.js'
import { usageTable } from './usages.js'
import { wayOfPin } from './way.js'

export const PICTURES: Readonly<Record<string, () => string>> = {
  dashboard,
  'get-pin': getPin,
  'set-pin-iso0': setPin,
  'set-pin-seccos': setPinSeccos,
  'usage-table': usageTable,
  'way-of-a-pin': wayOfPin,
}
