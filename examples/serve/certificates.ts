/**
 * Test certificates: a CA, the issuer's server certificate and D1's client certificate (RSA 2048). The CA's key is not
 * kept, so that nobody else gets a certificate that the server would take for D1's.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { isIP } from 'node:net'
import forge from 'node-forge'
import type { NewFile } from './folder.js'

const DAY = 24 * 3600 * 1000
const DAYS = 365

interface Pair {
  readonly privateKey: string
  readonly publicKey: string
}

type Subject = readonly [{ readonly name: 'commonName'; readonly value: string }]

/**
 * `ca.pem`, `server.pem`, `server.key`, `d1.pem`, `d1.key`; the server's for localhost and this host. `other.pem` and
 * `other.key` are another issuer's, certified by the same CA: they must open nothing.
 */
export function makeCertificates(host: string): readonly NewFile[] {
  const ca = keyPair()
  const authority = certificate(ca, ca, nameOf('Test CA of npm run serve'), [
    { name: 'basicConstraints', cA: true, critical: true },
    { name: 'keyUsage', keyCertSign: true, cRLSign: true, critical: true },
    { name: 'subjectKeyIdentifier' },
  ])
  const leaf = (commonName: string, extensions: readonly object[]): { pair: Pair; pem: string } => {
    const pair = keyPair()
    const common = [
      { name: 'basicConstraints', cA: false },
      { name: 'keyUsage', digitalSignature: true },
    ]
    return { pair, pem: certificate(pair, ca, nameOf(commonName), [...common, ...extensions]) }
  }
  const names = [...new Set(['localhost', '127.0.0.1', '::1', host])]
  const altNames = names.map(name => (isIP(name) ? { type: 7, ip: name } : { type: 2, value: name }))
  const server = leaf('issuer', [
    { name: 'extKeyUsage', serverAuth: true },
    { name: 'subjectAltName', altNames },
  ])
  const d1 = leaf('d1', [{ name: 'extKeyUsage', clientAuth: true }])
  const other = leaf('another-issuer', [{ name: 'extKeyUsage', clientAuth: true }])
  return [
    { name: 'ca.pem', text: authority, public: true },
    { name: 'server.pem', text: server.pem, public: true },
    { name: 'server.key', text: server.pair.privateKey },
    { name: 'd1.pem', text: d1.pem, public: true },
    { name: 'd1.key', text: d1.pair.privateKey },
    { name: 'other.pem', text: other.pem, public: true },
    { name: 'other.key', text: other.pair.privateKey },
  ]
}

/** By node:crypto: node-forge takes seconds for an RSA key. */
function keyPair(): Pair {
  return generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  })
}

function nameOf(value: string): Subject {
  return [{ name: 'commonName', value }]
}

function certificate(pair: Pair, signer: Pair, subject: Subject, extensions: readonly object[]): string {
  const made = forge.pki.createCertificate()
  made.publicKey = forge.pki.publicKeyFromPem(pair.publicKey)
  // A positive number (RFC 5280, 4.1.2.2).
  made.serialNumber = `01${randomBytes(15).toString('hex')}`
  made.validity.notBefore = new Date(Date.now() - DAY)
  made.validity.notAfter = new Date(Date.now() + DAYS * DAY)
  made.setSubject([...subject])
  made.setIssuer([...nameOf('Test CA of npm run serve')])
  made.setExtensions([...extensions])
  made.sign(forge.pki.privateKeyFromPem(signer.privateKey), forge.md.sha256.create())
  return forge.pki.certificateToPem(made)
}
