import { readFile } from 'node:fs/promises'
import {
  buildDataSet,
  dataSetFromHex,
  dataSetToHex,
  maskDataSet,
  Pan,
  Pin,
  parseProfile,
  readDataSet,
  uncoveredBy,
} from 'issuer-pin-crypto'
import { inspectDataSet } from 'issuer-pin-crypto/tools'

const file = new URL('profile.json', import.meta.url)
const profile = parseProfile(JSON.parse(await readFile(file, 'utf8')))
console.log(profile.name, profile.provenance)
console.log('the MAC leaves out', uncoveredBy({ profile, computation: 'mac' }))

// What D1 computes over, and what travels and is stored: the same with the masked fields zero.
using pin = Pin.from('4711')
const full = buildDataSet({
  profile,
  pan: Pan.from('9999990123456789'),
  pin,
  pcc: '0007',
  fields: { psn: '01' },
})
const prwDataSet = dataSetToHex(maskDataSet({ profile, full }))
full.fill(0)

console.log(readDataSet({ profile, dataSet: dataSetFromHex(prwDataSet) }))
console.log(inspectDataSet({ profile, prwDataSet }))
