/** Certificates for mTLS tests, made by the openssl command line: a CA, a server, a client, and a CA nobody trusts. */
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Credentials {
  readonly key: string
  readonly cert: string
}

export interface Certificates {
  readonly ca: string
  /** Of the same name, and no other thing in common. */
  readonly otherCa: string
  readonly server: Credentials
  /** D1's, signed by the CA. */
  readonly client: Credentials
  /** Signed by another CA of the same name. */
  readonly stranger: Credentials
  /** Another issuer's, signed by the CA. */
  readonly otherIssuer: Credentials
  /** A proxy's, signed by the CA. */
  readonly proxy: Credentials
  /** Signed by itself, with D1's name. */
  readonly selfSigned: Credentials
  /** D1's name, in a name that is another's: `URI:"a, DNS:d1.test, b"`. */
  readonly misnamed: Credentials
}

/** SHA-256 of a certificate as openssl writes it. */
export const fingerprintOf = ({ cert }: Credentials): string => new X509Certificate(cert).fingerprint256

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

export function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'issuer-endpoints-'))
  const path = (name: string): string => join(folder, name)
  const text = (name: string): string => readFileSync(path(name), 'utf8')
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  }
  const authority = (name: string): void => {
    const subject = ['-subj', '/CN=Test CA', '-days', '2', '-x509']
    openssl('req', ...EC, ...subject, '-keyout', `${name}.key`, '-out', `${name}.pem`)
  }
  const certificate = (
    name: string,
    ca: string,
    usage: string,
    san = 'DNS:localhost,IP:127.0.0.1',
  ): Credentials => {
    openssl('req', ...EC, '-subj', `/CN=${name}`, '-keyout', `${name}.key`, '-out', `${name}.csr`)
    writeFileSync(path(`${name}.ext`), `extendedKeyUsage=${usage}\nsubjectAltName=${san}\n`)
    const signer = ['-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-CAcreateserial', '-days', '2']
    openssl('x509', '-req', '-in', `${name}.csr`, ...signer, '-extfile', `${name}.ext`, '-out', `${name}.pem`)
    return { key: text(`${name}.key`), cert: text(`${name}.pem`) }
  }
  const selfSigned = (name: string): Credentials => {
    const files = ['-keyout', 'self.key', '-out', 'self.pem']
    openssl('req', ...EC, '-x509', '-days', '2', '-subj', `/CN=${name}`, ...files)
    return { key: text('self.key'), cert: text('self.pem') }
  }
  try {
    authority('ca')
    authority('other-ca')
    return {
      ca: text('ca.pem'),
      otherCa: text('other-ca.pem'),
      server: certificate('issuer', 'ca', 'serverAuth'),
      client: certificate('d1', 'ca', 'clientAuth', 'DNS:d1.test,URI:spiffe://d1'),
      otherIssuer: certificate('other-issuer', 'ca', 'clientAuth', 'DNS:other.test'),
      proxy: certificate('proxy', 'ca', 'clientAuth'),
      selfSigned: selfSigned('d1'),
      misnamed: certificate('misnamed', 'ca', 'clientAuth', '@names\n[names]\nURI.1=a\\, DNS:d1.test\\, b'),
      stranger: certificate('stranger', 'other-ca', 'clientAuth'),
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
