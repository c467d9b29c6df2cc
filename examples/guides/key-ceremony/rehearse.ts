import { randomBytes } from 'node:crypto'
import { softwareBackend } from 'issuer-pin-crypto/software'

/**
 * The arithmetic of a ceremony, with values made up for it: components of full length, combined by exclusive or, and
 * the check value of each and of the result. In earnest, the components are typed into the HSM by different people,
 * and no program of yours sees one.
 */
const components = [randomBytes(16), randomBytes(16), randomBytes(16)]
const combined = Uint8Array.from({ length: 16 }, (_, i) =>
  components.reduce((sum, component) => sum ^ (component[i] ?? 0), 0),
)

const tdea = { usage: 'pin-encryption', algorithm: 'tdea-2key' } as const
await using backend = await softwareBackend({
  keys: [
    ...components.map((material, i) => ({ ...tdea, kid: `component ${i + 1}`, material })),
    { ...tdea, kid: 'ZPK-D1-2026', material: combined },
  ],
})
for (const kid of ['component 1', 'component 2', 'component 3', 'ZPK-D1-2026']) {
  const { checkValue, parity } = await backend.bind({ kid, usage: 'pin-encryption' })
  console.log(`${kid.padEnd(12)} KCV ${checkValue.value} (${checkValue.method}), parity ${parity}`)
}
