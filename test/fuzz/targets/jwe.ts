/** `openJwe` against jose: what one opens, the other opens, but for the rules that are stricter here and documented. */
import fc from 'fast-check'
import { type CryptoKey, compactDecrypt, importJWK } from 'jose'
import { openJwe } from '../../../src/index.js'
import { inspectJweHeader } from '../../../src/tools.js'
import {
  b64u,
  EPK,
  forge,
  HEADER,
  RECIPIENT,
  RECIPIENT_PRIVATE,
  SAMPLE,
  softwareKey,
} from '../../jwe/support.js'
import { Input, textInput } from '../support/input.js'
import { attemptAsync } from '../support/oracle.js'
import { strictJson } from '../support/strict-json.js'
import { check, type FuzzTarget, once } from '../target.js'

const ours = once(() => softwareKey())
const theirs = once(() => importJWK({ ...RECIPIENT_PRIVATE }, 'ECDH-ES'))

/** Headers that are right but for a member, under tags that are right: a mutated JWE fails at its tag. */
const member = fc.constantFrom(
  'alg',
  'enc',
  'kid',
  'epk',
  'apu',
  'apv',
  'zip',
  'crit',
  'typ',
  'cty',
  'x',
  'p2c',
  'b64',
)
const value = fc.oneof(
  fc.constantFrom<unknown>(
    'ECDH-ES',
    'A256GCM',
    'A128GCM',
    'DEF',
    'none',
    '',
    null,
    0,
    true,
    [],
    ['exp'],
    {},
    'QQ',
    'QR',
  ),
  fc.constantFrom<unknown>(
    RECIPIENT.kid,
    `${RECIPIENT.kid} `,
    EPK,
    { ...EPK, d: 'AA' },
    { ...EPK, x: EPK.y },
    { ...EPK, use: 'sig' },
  ),
  fc.constantFrom<unknown>(
    { ...EPK, x: `${EPK.x}=` },
    { ...EPK, crv: 'P-384' },
    { ...EPK, kty: 'OKP' },
    'A'.repeat(344),
    'A'.repeat(400),
  ),
  fc.string(),
)
const almost = fc
  .tuple(
    fc.array(fc.tuple(member, value), { maxLength: 2 }),
    fc.constantFrom('', ' ', '{"kid":"x"}', '\uFEFF'),
    fc.boolean(),
    fc.uint8Array({ maxLength: 80 }),
  )
  .map(([changes, odd, twice, plaintext]) => {
    const header: Record<string, unknown> = { ...HEADER }
    for (const [name, to] of changes) header[name] = to
    const json = JSON.stringify(header)
    const text = twice ? `${json.slice(0, -1)},"kid":${JSON.stringify(RECIPIENT.kid)}}` : json
    const party = (name: string): string => {
      const given = header[name]
      return typeof given === 'string' ? given : ''
    }
    return textInput(
      forge(odd === '\uFEFF' ? odd + text : text + (odd === ' ' ? ' ' : ''), {
        apu: party('apu'),
        apv: party('apv'),
        plaintext,
      }),
    )
  })

const SEEDS = [
  SAMPLE,
  forge(HEADER),
  forge({ ...HEADER, apu: 'QWxpY2U', apv: 'Qm9i' }, { apu: 'QWxpY2U', apv: 'Qm9i' }),
  forge({ ...HEADER, typ: 'JOSE', cty: 'json', further: { a: 1 } }),
  forge(HEADER, { plaintext: new Uint8Array(0) }),
  forge(HEADER, { plaintext: new Uint8Array(5600) }),
].map(text => textInput(text))

/** Why a JWE that jose opens is refused here; undefined where there is no reason. Each is documented at its place. */
function stricter(jwe: string): string | undefined {
  if (jwe.length > 8192) return 'longer than 8192 characters'
  const segments = jwe.split('.')
  const [header = ''] = segments
  if (header.length > 2048) return 'a header of more than 2048 characters'
  if (segments.some(segment => b64u(Buffer.from(segment, 'base64url')) !== segment))
    return 'base64url not canonical'
  const bytes = Buffer.from(header, 'base64url')
  const text = bytes.toString('utf8')
  const members = Buffer.from(text).equals(bytes) ? strictJson(text) : undefined
  if (members === undefined) return 'a header that is not strict JSON'
  const { kid, typ, cty, apu, apv, epk } = members
  if ('zip' in members || 'crit' in members) return 'compression, or an extension'
  if (kid !== undefined && kid !== RECIPIENT.kid) return 'another kid'
  if ([typ, cty].some(each => each !== undefined && typeof each !== 'string'))
    return 'typ or cty is no string'
  for (const party of [apu, apv]) {
    if (party === undefined) continue
    if (typeof party !== 'string') return 'apu or apv is no string'
    const decoded = Buffer.from(party, 'base64url')
    if (decoded.length > 256 || b64u(decoded) !== party) return 'apu or apv is too long, or not canonical'
  }
  if (typeof epk !== 'object' || epk === null || 'd' in epk) return 'an ephemeral key with a private member'
  const { x, y } = epk as { x?: unknown; y?: unknown }
  const canonical = [x, y].every(
    each => typeof each === 'string' && b64u(Buffer.from(each, 'base64url')) === each,
  )
  return canonical ? undefined : 'coordinates that are not canonical'
}

export const openedJwe: FuzzTarget = {
  name: 'jwe',
  share: 20,
  seeds: SEEDS,
  structured: almost,
  async run(bytes) {
    const jwe = new Input(bytes).text()
    const keys = await ours()
    const opened = await attemptAsync(() => openJwe({ jwe, keys }), { codes: ['ERR_JWE'], hidden: [jwe] })
    const peer = await compactDecrypt(jwe, (await theirs()) as CryptoKey, {
      keyManagementAlgorithms: ['ECDH-ES'],
      contentEncryptionAlgorithms: ['A256GCM'],
    }).catch(() => undefined)
    if (opened !== undefined) {
      check(peer !== undefined, 'what opens here opens in jose')
      check(Buffer.from(peer.plaintext).equals(opened.plaintext), 'and holds the same')
      check(opened.kid === RECIPIENT.kid, 'and says whose key it was')
    } else if (peer !== undefined) {
      check(stricter(jwe) !== undefined, 'jose opens it, and no rule of ours refuses it')
    }
  },
}

const PRIVATE = 'c2VjcmV0LXNjYWxhcg'

/** For people: whatever is there is shown, but for the ciphertext and private members, and nothing is raised. */
export const shownHeader: FuzzTarget = {
  name: 'jwe-header-shown',
  share: 25,
  seeds: [...SEEDS, textInput(forge({ ...HEADER, epk: { ...EPK, d: PRIVATE } }))],
  run(bytes) {
    const jwe = new Input(bytes).text()
    const text = inspectJweHeader(jwe)
    check(/^[\x20-\x7e\n•…]*$/.test(text), 'plain text without control characters')
    // A mutation may put it into a public member, where it is shown rightly.
    const header = Buffer.from(jwe.split('.')[0] ?? '', 'base64url').toString()
    const inPublic = header.replaceAll(/"d"\s*:\s*"[^"]*"/g, '').includes(PRIVATE)
    check(inPublic || !text.includes(PRIVATE), 'a private member is shown')
    check(text.length < 60_000, 'a text of bounded length')
    const ciphertext = jwe.split('.')[3] ?? ''
    check(ciphertext.length < 24 || !text.includes(ciphertext), 'the ciphertext is shown')
  },
}
