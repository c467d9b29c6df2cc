/**
 * Constant time by construction: bytes are compared by `equalBytes` of `base/bytes`, which is `timingSafeEqual`, and in no
 * other way; what is public and compared otherwise is in the table.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const SRC = new URL('../src', import.meta.url).pathname
const OTHERWISE = /timingSafeEqual\(|\.compare\(|\.equals\(|toHex\([^()]*\)\s*[!=]==|[!=]==\s*toHex\(/

/** The line as it is in the file, and why it may be there. */
const PUBLIC: Readonly<Record<string, string>> = {
  'base/bytes.ts: return a.length === b.length && timingSafeEqual(a, b)': 'the one place',
  'cli/compute.ts: const verified = await withPin(values, io, async pin => inBlock.equals(pin))':
    'Pin.equals',
  'pin/pin-policy.ts: before: policy.notBefore && before !== undefined && pin.equals(before) ? 1 : 0,':
    'Pin.equals',
  'd1/messages/set-pin.ts: return pin.equals(before)': 'Pin.equals',
  'primitives/p256.ts: if (lastGood.equals(point)) return true': 'a public point',
  "d1/endpoints/peer.ts: return typeof encoded === 'string' || x509.raw.equals(encoded) ? describe(x509) : undefined":
    'a certificate',
}

test('bytes are compared in one way', () => {
  const found = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter(path => path.endsWith('.ts'))
    .flatMap(path =>
      readFileSync(join(SRC, path), 'utf8')
        .split('\n')
        .map(line => line.trim())
        .filter(line => OTHERWISE.test(line) && !/^(\*|\/\/|\/\*)/.test(line))
        .map(line => `${path}: ${line}`),
    )
  expect(found.filter(line => PUBLIC[line] === undefined)).toEqual([])
  expect(Object.keys(PUBLIC).filter(line => !found.includes(line))).toEqual([])
})
