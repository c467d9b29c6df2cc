/** A page a vendor, made from the table that the code reads: what `vendor` sets, and how to find out whether it holds. */

import { VENDORS, type Vendor } from '../../src/backend/pkcs11/mechanisms/plan.js'
import { keepAliveOf } from '../../src/backend/pkcs11/session/options.js'
import { DEFAULTS } from '../../src/base/defaults.js'

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
  'p11-kit': 'p11-kit 0.24 and 0.25',
}

/** Where the library usually is: from published examples. The vendor's manual decides. */
const MODULES: Readonly<Record<Vendor, string>> = {
  luna: '/usr/safenet/lunaclient/lib/libCryptoki2_64.so',
  protectserver: '/opt/safenet/protecttoolkit7/ptk/lib/libcryptoki.so',
  utimaco: '/usr/lib/libcs_pkcs11_R3.so',
  nshield: '/opt/nfast/toolkits/pkcs11/libcknfast.so',
  cloudhsm: '/opt/cloudhsm/lib/libcloudhsm_pkcs11.so',
  yubihsm: '/usr/lib/x86_64-linux-gnu/pkcs11/yubihsm_pkcs11.so',
  softhsm: '/usr/lib/softhsm/libsofthsm2.so',
  nss: '/usr/lib/x86_64-linux-gnu/libsoftokn3.so',
  opencryptoki: '/usr/lib/opencryptoki/libopencryptoki.so',
  'p11-kit': '/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so',
}

/** Seen with the modules that are tried here; what the others do, their owners find out. */
const WRAPS_OUT: Partial<Readonly<Record<Vendor, string>>> = {
  softhsm: 'refused (tried here)',
  nss: '**given out** to every user of the token (tried here); such a key is bound only where `accept` names "wrappable"',
  opencryptoki: 'not given out by what the probe tries (tried here)',
  'p11-kit': 'as the token behind it does',
}
const WRAPS_OUT_UNKNOWN =
  'not tried on hardware: `doctor` tries it on a test key, and says so where it is given out; such a key is bound only where `accept` names "wrappable"'

export const VENDOR_NAMES: readonly Vendor[] = Object.keys(VENDORS) as Vendor[]

/** The page of one vendor. */
export function vendorPage(vendor: Vendor): string {
  const { source, publicKeysPrivate, readWrite, login, sessions, sessionEndsAfter, ...row } = VENDORS[vendor]
  const { lacks, claims, nestedTemplates, retailMac, remark } = row
  const rows: readonly (readonly [string, string])[] = [
    ['option', `\`vendor: '${vendor}'\``],
    ['source', source === 'tried' ? 'tried here' : '**from documentation, not tried on hardware**'],
    ['sessions', readWrite ? 'read-write only' : 'read-only'],
    ['sessions at a time', `${sessions ?? `${DEFAULTS.pkcs11.sessions.value}, as everywhere`}`],
    ['idle sessions are exercised every', `${keepAliveOf({ sessionEndsAfter })} ms`],
    ['login', login],
    ['CKA_PRIVATE of public keys', String(publicKeysPrivate)],
    [
      'role attributes it does not have',
      lacks.length === 0 ? 'none known' : lacks.map(bit => `CKA_${bit}`).join(', '),
    ],
    ['CKA_UNWRAP_TEMPLATE, CKA_WRAP_TEMPLATE', nestedTemplates ? 'tried by the probe' : 'never stated'],
    ['a key that is not extractable, to be wrapped', WRAPS_OUT[vendor] ?? WRAPS_OUT_UNKNOWN],
    ['retail MAC of its own', retailMac ?? 'none known'],
    ["what it says of a key's past and is not so", claims ?? 'nothing known'],
    ['remark', remark ?? '–'],
  ]
  return `# ${NAMES[vendor]}

What \`vendor: '${vendor}'\` sets. Each row is a default: what you say goes before it. Nothing in it is trusted with
cryptography: the probe decides.

| | |
|---|---|
${rows.map(([name, value]) => `| ${name} | ${value} |`).join('\n')}

What this token can do; where the library is, the vendor's manual says, and the path below is an example:

\`\`\`sh
npx issuer-pin-crypto doctor --module ${MODULES[vendor]} --vendor ${vendor} --token LABEL
\`\`\`

Then [running against your HSM](../guides/your-hsm.md) has the contract suite, and [running on tokens](../operations.md) sizes, deadlines
and failover. [All vendors](../vendors.md)
`
}

/** docs/vendors.md. */
export function vendorIndex(): string {
  const rows = VENDOR_NAMES.map(vendor => {
    const { source, remark } = VENDORS[vendor]
    const how = source === 'tried' ? 'tried here' : '**from documentation, not tried on hardware**'
    return `| [${NAMES[vendor]}](vendors/${vendor}.md) | \`vendor: '${vendor}'\` | ${how} | ${remark ?? '–'} |`
  })
  return `# Vendors

What \`vendor\` sets, made from the table that the code reads: a page a vendor. A row is a default: what you say goes
before it. Nothing in it is trusted with cryptography: the probe decides. How to run on a token: [operations](operations.md).

| | option | source | remark |
|---|---|---|---|
${rows.join('\n')}
`
}
