/** The list of drawings: file name under docs/pictures, and what makes it. */

import { readFileSync } from 'node:fs'
import { parseProfile } from '../../src/index.js'
import { drawProfile } from '../../src/tools.js'
import { dashboard } from './dashboard.js'
import { getPin, setPin, setPinSeccos } from './flows.js'
import { keysAndRotation } from './keys.js'
import { usageTable } from './usages.js'
import { wayOfPin } from './way.js'

/** The profile of the guide, as `inspect profile` draws it. */
function guideProfile(): string {
  const file = new URL('../../examples/guides/seccos-profile/profile.json', import.meta.url)
  return drawProfile(parseProfile(JSON.parse(readFileSync(file, 'utf8'))))
}

export const PICTURES: Readonly<Record<string, () => string>> = {
  dashboard,
  'get-pin': getPin,
  'seccos-profile': guideProfile,
  'keys-and-rotation': keysAndRotation,
  'set-pin-iso0': setPin,
  'set-pin-seccos': setPinSeccos,
  'usage-table': usageTable,
  'way-of-a-pin': wayOfPin,
}
