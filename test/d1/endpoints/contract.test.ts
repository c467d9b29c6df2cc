/** Every operation and every status of the contract, over real TLS sockets with client certificates. */
import { describe, expect, test } from 'vitest'
import { ROUTES } from '../../../src/d1/endpoints/http.js'
import { endpointContract } from './support/cases.js'
import { CONTRACT, type Operation, spec, specIsPresent, specOperations } from './support/contract.js'
import { World } from './support/world.js'

if (!specIsPresent)
  console.warn('the published document is not looked at: set D1_OPENAPI to its file (CONTRIBUTING.md)')

describe.skipIf(!specIsPresent)('the published document', () => {
  test('has these operations, and no other', () => {
    const published = specOperations.map(({ operationId, method, path }) => ({ operationId, method, path }))
    const ours = ROUTES.filter(route => route.api === 'pin').map(({ operation, method, path }) => ({
      operationId: operation,
      method,
      path,
    }))
    expect(ours).toEqual(published)
    expect(spec?.paths).toBeDefined()
  })

  test('has these statuses, and no other', () => {
    for (const { operationId, responses } of specOperations) {
      expect(Object.keys(CONTRACT[operationId as Operation])).toEqual(Object.keys(responses))
    }
  })
})

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('in software, over %s', version => {
  endpointContract(version, () => World.open())
})
