import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { computePrw, dataSetToHex, generatePrwMac, Pan, Pin, parseProfile } from 'issuer-pin-crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'
import { type ProbeSample, probeProfile } from 'issuer-pin-crypto/tools'

// Stands in for the scheme: samples of two cards under test keys. Yours come from the scheme's test environment.
const prwTestKey = randomBytes(16)
const macTestKey = randomBytes(16)
const samples = [
  await makeSample('9999990123456789', '4711', '0007'),
  await makeSample('9999980000000012', '08154', '0123'),
]

// What reproduces both? Test keys only: the prober takes keys in the clear.
const { prw, mac, places, draft } = await probeProfile({ samples, prwTestKey, macTestKey })
for (const [what, { verdict, matches }] of Object.entries({ PRW: prw, MAC: mac })) {
  console.log(what, verdict)
  for (const { algorithm, padding, inputs } of matches) console.log(algorithm, padding, inputs)
}
console.table(places)
if (draft !== undefined) console.log('a draft, to be confirmed:', draft.fields.length, 'fields')

async function makeSample(digits: string, pinDigits: string, pcc: string): Promise<ProbeSample> {
  const profile = parseProfile(JSON.parse(await readFile(new URL('profile.json', import.meta.url), 'utf8')))
  const tdea = { algorithm: 'tdea-2key' } as const
  await using backend = await softwareBackend({
    keys: [
      { ...tdea, kid: 'PRW', usage: 'prw-generate', material: prwTestKey },
      { ...tdea, kid: 'MAC', usage: 'retail-mac', material: macTestKey },
    ],
  })
  const pan = Pan.from(digits)
  const pin = Pin.from(pinDigits)
  const key = await backend.bind({ kid: 'PRW', usage: 'prw-generate' })
  const { dataSet, prwValue } = await computePrw({ key, profile, pin, pan, pcc, fields: { psn: '01' } })
  const macKey = await backend.bind({ kid: 'MAC', usage: 'retail-mac' })
  const { macValue } = await generatePrwMac({ key: macKey, profile, dataSet, prwValue })
  const known = { psn: '01' }
  return {
    pan,
    pin,
    pcc,
    intdatag: 'A'.repeat(20),
    prwDataSet: dataSetToHex(dataSet),
    prwValue,
    macValue,
    known,
  }
}
