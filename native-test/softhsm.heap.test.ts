/**
 * No key byte, PIN or Z in the JavaScript heap: a process that works with token keys writes its heap to a file, and
 * the file is searched for canaries as hex, base64, base64url, raw and as lists of numbers.
 *
 * A heap snapshot shows strings and objects, not the memory behind buffers; that buffers are wiped is what the fault
 * tests assert (test/pkcs11/). What SoftHSM holds natively, in the same process, is not ours.
 */
import { spawnSync } from 'node:child_process'
import { createECDH, randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

function child(script: string, env: Record<string, string>): string {
  const path = fileURLToPath(new URL(`children/${script}`, import.meta.url))
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', 'tsx', path], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  expect(status, stderr).toBe(0)
  return stdout.trim()
}

/** How a secret might stand in a heap snapshot, which is JSON in UTF-8. */
function spellings(secret: Uint8Array): string[] {
  const buffer = Buffer.from(secret)
  const hex = buffer.toString('hex')
  return [
    hex,
    hex.toUpperCase(),
    buffer.toString('base64'),
    buffer.toString('base64url'),
    JSON.stringify(buffer.toString('latin1')).slice(1, -1),
    [...secret].join(','),
  ]
}

describeSoftHsm('the JavaScript heap of a process that works with token keys', () => {
  const { token } = makeToken('heap')
  const folder = mkdtempSync(join(tmpdir(), 'ipc-heap-'))
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const file = (name: string, content: string | Uint8Array): string => {
    const path = join(folder, name)
    writeFileSync(path, content)
    return path
  }

  test('holds no key byte, no PIN and no Z', () => {
    const tdea = { pin: randomBytes(16), mac: randomBytes(16) }
    const recipient = createECDH('prime256v1')
    const recipientPoint = recipient.generateKeys()
    const ephemeral = createECDH('prime256v1')
    const point = ephemeral.generateKeys()
    const z = ephemeral.computeSecret(recipientPoint)
    const cardPin = Array.from(randomBytes(12), byte => byte % 10).join('')
    const module = SOFTHSM_MODULE ?? ''
    const secrets = {
      module,
      token,
      userPin: USER_PIN,
      tdea: { pin: tdea.pin.toString('hex'), mac: tdea.mac.toString('hex') },
      jwk: {
        kty: 'EC',
        crv: 'P-256',
        x: recipientPoint.subarray(1, 33).toString('base64url'),
        y: recipientPoint.subarray(33).toString('base64url'),
        d: recipient.getPrivateKey().toString('base64url'),
      },
    }
    const secretsFile = file('secrets.json', JSON.stringify(secrets))
    child('provision-canaries.ts', { SECRETS: secretsFile })
    rmSync(secretsFile)

    const snapshot = join(folder, 'heap.heapsnapshot')
    const pid = child('work-and-dump.ts', {
      MODULE: module,
      TOKEN: String(token),
      USER_PIN_FILE: file('user-pin', USER_PIN),
      CARD_PIN_FILE: file('card-pin', cardPin),
      POINT_FILE: file('point', point),
      SNAPSHOT: snapshot,
    })
    const heap = readFileSync(snapshot, 'utf8')
    expect(heap).toContain(`positive-control-${pid}`)

    const privateKey = Buffer.alloc(32)
    recipient.getPrivateKey().copy(privateKey, 32 - recipient.getPrivateKey().length)
    const canaries: Record<string, string[]> = {
      'PIN encryption key': spellings(tdea.pin),
      'its first half': spellings(tdea.pin.subarray(0, 8)),
      'its second half': spellings(tdea.pin.subarray(8)),
      'retail MAC key': spellings(tdea.mac),
      'its K1': spellings(tdea.mac.subarray(0, 8)),
      'private key': spellings(privateKey),
      Z: spellings(z),
      'user PIN': [USER_PIN],
      'cardholder PIN': [cardPin, [...cardPin].join(',')],
    }
    for (const [what, forms] of Object.entries(canaries)) {
      for (const form of forms)
        expect(heap.includes(form), `${what} as ${form.length} characters`).toBe(false)
    }
  })
})
