import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Pair {
  readonly cert: string
  readonly key: string
}

export interface TestCa {
  readonly ca: string
  /** A P-256 key and a certificate for it. */
  issue(name: string, usage: 'serverAuth' | 'clientAuth'): Pair
}

const SAN = 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'

/** A certification authority of its own, made by openssl in a directory that is gone afterwards. */
export function testCa(commonName: string): TestCa {
  const inDirectory = <T>(use: (directory: string, openssl: (...args: string[]) => void) => T): T => {
    const directory = mkdtempSync(join(tmpdir(), 'd1-test-ca-'))
    try {
      return use(directory, (...args) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' }))
    } finally {
      rmSync(directory, { recursive: true })
    }
  }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const root = inDirectory((directory, openssl) => {
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-keyout',
      'k',
      '-out',
      'c',
      '-days',
      '90',
      '-subj',
      `/CN=${commonName}`,
    )
    return {
      cert: readFileSync(join(directory, 'c'), 'utf8'),
      key: readFileSync(join(directory, 'k'), 'utf8'),
    }
  })
  return {
    ca: root.cert,
    issue: (name, usage) =>
      inDirectory((directory, openssl) => {
        writeFileSync(join(directory, 'ca'), root.cert)
        writeFileSync(join(directory, 'cak'), root.key)
        writeFileSync(join(directory, 'ext'), `extendedKeyUsage=${usage}\n${SAN}\n`)
        openssl('req', '-new', ...newKey, '-keyout', 'k', '-out', 'r', '-subj', `/CN=${name}`)
        const signed = ['-CA', 'ca', '-CAkey', 'cak', '-CAcreateserial', '-days', '90', '-extfile', 'ext']
        openssl('x509', '-req', '-in', 'r', ...signed, '-out', 'c')
        return {
          cert: readFileSync(join(directory, 'c'), 'utf8'),
          key: readFileSync(join(directory, 'k'), 'utf8'),
        }
      }),
  }
}
