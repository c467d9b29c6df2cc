import type { SoftwareKey } from 'issuer-pin-crypto/software'

/** Published test values. A production key is never written down like this. */
export const TEST_KEYS: readonly SoftwareKey[] = [
  {
    kid: 'ZPK-D1',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: '0123456789ABCDEFFEDCBA9876543210',
  },
  {
    kid: 'PEK-STORE',
    usage: 'pin-encryption',
    algorithm: 'tdea-2key',
    material: '89E88CF7931444F334BD7547FC3F380C',
  },
  { kid: 'ISSUER-JWE', usage: 'jwe-key-agreement', algorithm: 'ec-p256', material: '11'.repeat(32) },
]
