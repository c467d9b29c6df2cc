import * as c from 'node:crypto'
import { ownCopy } from '../../src/bytes.js'
import { parseJsonObject } from '../../src/json.js'
import { decodeBase64url } from '../../src/jwe/base64url.js'
import { parseCompact } from '../../src/jwe/compact.js'
import { concatKdf, otherInfo } from '../../src/jwe/concat-kdf.js'
import { decryptContent, encryptContent } from '../../src/jwe/content.js'
import { parseHeader } from '../../src/jwe/header.js'
import { pointOfJwk } from '../../src/key/p256.js'
import { RECIPIENT, SAMPLE } from './support.js'

function t(n: string, f: () => unknown, k = 20000) {
  for (let i = 0; i < 3000; i++) f()
  const s = process.hrtime.bigint()
  for (let i = 0; i < k; i++) f()
  console.log(n.padEnd(20), (Number(process.hrtime.bigint() - s) / k / 1000).toFixed(2))
}
const p = parseCompact(SAMPLE)!
const h = SAMPLE.split('.')[0]!
const json = decodeBase64url(h)!
const txt = new TextDecoder().decode(json)
t('parseCompact', () => parseCompact(SAMPLE))
t('parseHeader', () => parseHeader(h))
t('b64 header', () => decodeBase64url(h))
t('b64 tag', () => decodeBase64url(SAMPLE.slice(-22)))
t('ownCopy16', () => ownCopy(p.tag))
t('json bytes', () => parseJsonObject(json))
t('json text', () => parseJsonObject(txt))
t('JSON.parse', () => JSON.parse(txt))
t('pointOfJwk', () => pointOfJwk(RECIPIENT))
const oi = otherInfo({ algorithmId: 'A256GCM', keyBits: 256 }),
  z = new Uint8Array(32)
t('otherInfo', () => otherInfo({ algorithmId: 'A256GCM', keyBits: 256 }))
t('kdf', () => concatKdf(z, oi, 32))
t('hash1', () => (c as any).hash('sha256', oi, 'buffer'))
const pt = new Uint8Array(39)
t('enc', () => encryptContent(z, { aad: p.aad, iv: p.iv, plaintext: pt }))
const e = encryptContent(z, { aad: p.aad, iv: p.iv, plaintext: pt })
t('dec', () => decryptContent(z, e))
t('rfs', () => c.randomFillSync(new Uint8Array(12)))
const bb = Buffer.alloc(12)
t('rfs pre', () => c.randomFillSync(bb))
