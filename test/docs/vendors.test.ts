/**
 * docs/vendors.md is made from the table in the code, so that it cannot go stale. `npx vitest run --project 'unit*'
 * test/docs/vendors.test.ts -u` writes it anew.
 */
import { expect, test } from 'vitest'
import { VENDORS, type Vendor } from '../../src/backend/pkcs11/mechanisms/plan.js'

const NAMES: Readonly<Record<Vendor, string>> = {
  luna: 'Thales Luna',
  protectserver: 'Thales ProtectServer',
  utimaco: 'Utimaco',
  nshield: 'Entrust nShield',
  cloudhsm: 'AWS CloudHSM',
  yubihsm: 'YubiHSM 2',
  softhsm: 'SoftHSM 2.6',
  nss: 'NSS softokn 3.87',
  opencryptoki: 'openCryptoki 3.8',
  'p11-kit': 'p11-kit 0.24',
}

function section(vendor: Vendor): string {
  const { source, publicKeysPrivate, readWrite, login, lacks, claims, nestedTemplates, retailMac, remark } =
    VENDORS[vendor]
  const rows: readonly (readonly [string, string])[] = [
    ['option', `\`vendor: '${vendor}'\``],
    ['source', source === 'tried' ? 'tried here' : '**from documentation, not tried on hardware**'],
    ['sessions', readWrite ? 'read-write only' : 'read-only'],
    ['login', login],
    ['CKA_PRIVATE of public keys', String(publicKeysPrivate)],
    [
      'role attributes it does not have',
      lacks.length === 0 ? 'none known' : lacks.map(bit => `CKA_${bit}`).join(', '),
    ],
    ['CKA_UNWRAP_TEMPLATE, CKA_WRAP_TEMPLATE', nestedTemplates ? 'tried by the probe' : 'never stated'],
    ['retail MAC of its own', retailMac ?? 'none known'],
    ["what it says of a key's past and is not so", claims ?? 'nothing known'],
    ['remark', remark ?? '–'],
  ]
  return [
    `## ${NAMES[vendor]}`,
    '',
    '| | |',
    '|---|---|',
    ...rows.map(([name, value]) => `| ${name} | ${value} |`),
  ].join('\n')
}

function page(): string {
  const head = `# Vendors

What \`vendor\` sets, made from the table that the code reads (\`src/backend/pkcs11/mechanisms/plan.ts\`). A row is a default: what you say goes
before it. Nothing in it is trusted with cryptography: the probe decides. How to run on a token: [operations](operations.md).`
  return `${[head, ...(Object.keys(VENDORS) as Vendor[]).map(section)].join('\n\n')}\n`
}

test('the page of each vendor is what the table says', async () => {
  await expect(page()).toMatchFileSnapshot('../../docs/vendors.md')
})
