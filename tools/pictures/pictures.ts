/** The list of drawings: file name under docs/pictures, and what makes it. */

import { readFileSync } from 'node:fs'
import { parseProfile } from '../../src/index.js'
import { drawProfile } from '../../src/tools.js'
import { usageAttributes } from './attributes.js'
import { pinBlocks } from './blocks.js'
import { intdatagStates } from './counter.js'
import { dashboard } from './dashboard.js'
import { getPin, setPin, setPinSeccos } from './flows.js'
import { keyLife } from './key-life.js'
import { keysAndRotation } from './keys.js'
import { faultRecovery, loadPercentiles, timingEffects } from './measured.js'
import { usageTable } from './usages.js'
import { wayOfPin } from './way.js'

/** The profile of the guide, as `inspect profile` draws it. */
function guideProfile(): string {
  const file = new URL('../../examples/guides/seccos-profile/profile.json', import.meta.url)
  return drawProfile(parseProfile(JSON.parse(readFileSync(file, 'utf8'))))
}

export const PICTURES: Readonly<Record<string, () => string>> = {
  dashboard,
  'fault-recovery': faultRecovery,
  'get-pin': getPin,
  'pin-blocks': pinBlocks,
  'seccos-profile': guideProfile,
  'intdatag-states': intdatagStates,
  'key-life': keyLife,
  'keys-and-rotation': keysAndRotation,
  'load-percentiles': loadPercentiles,
  'set-pin-iso0': setPin,
  'set-pin-seccos': setPinSeccos,
  'timing-effects': timingEffects,
  'usage-attributes': usageAttributes,
  'usage-table': usageTable,
  'way-of-a-pin': wayOfPin,
}
