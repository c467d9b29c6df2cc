/**
 * What the memory of a process holds after it has worked with keys in software, failed at things, and closed: the
 * JavaScript heap by a snapshot, and all writable memory (buffers, OpenSSL) through /proc. Positive controls show that
 * both searches find what is there. What is known to remain is listed, and printed.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { canariesOf, found } from '../test/leaks/canaries.js'
import * as planted from '../test/leaks/secrets.js'
import { cannotReadMemory, scanMemory } from './memory.js'

const { storedBlock, clearBlock, contentKey, keys, pan, pin, z } = planted
const scalar = Buffer.from(planted.jwe.d, 'base64url')
const inside = `the content of a JWE ${randomInt(1e9)}`
const kept = randomBytes(24)

/** Raw bytes that must be nowhere after `close()`. */
const PATTERNS: Readonly<Record<string, Uint8Array>> = {
  'PIN as ASCII': Buffer.from(pin),
  'PIN as digits': Uint8Array.from(pin, Number),
  'PAN as ASCII': Buffer.from(pan),
  'PAN as digits': Uint8Array.from(pan, Number),
  'clear block': clearBlock,
  'storage key': keys['storage key'],
  'storage key, first half': keys['storage key'].subarray(0, 8),
  'storage key, second half': keys['storage key'].subarray(8),
  'retail MAC key': keys['retail MAC key'],
  'its K1': keys['retail MAC key'].subarray(0, 8),
  'private scalar': scalar,
  'private scalar, as OpenSSL keeps numbers': Buffer.from(scalar).reverse(),
  Z: z,
  'content key': contentKey,
  'content of the JWE': Buffer.from(inside),
}

/** A `Pan` has no `dispose`: its digits go when the memory of a collected object is used again. */
const MAY_REMAIN: readonly string[] = ['PAN as digits']

const folder = mkdtempSync(join(tmpdir(), 'ipc-memory-'))
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

function lengthFirst(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts.flatMap(part => [Buffer.of(part.length >> 8, part.length & 0xff), part]))
}

/** The child when it has done its work and stands still, and what it has written meanwhile. */
async function workedChild(
  engine: string,
  more: NodeJS.ProcessEnv = {},
): Promise<{ child: ChildProcess; output: string; snapshot: string }> {
  const file = (name: string, bytes: Uint8Array): string => {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    return path
  }
  const parts = [Buffer.from(pin), Buffer.from(pan), keys['storage key'], keys['retail MAC key'], scalar]
  const snapshot = join(folder, `${engine}.heapsnapshot`)
  const script = fileURLToPath(new URL('children/leaks-and-dump.ts', import.meta.url))
  const child = spawn(process.execPath, ['--expose-gc', '--import', 'tsx', script], {
    env: {
      ...process.env,
      ENGINE: engine,
      SECRETS: file('secrets', lengthFirst([...parts, Buffer.from(planted.sealed(inside))])),
      KEEP: file('kept', kept),
      SNAPSHOT: snapshot,
      NODE_DEBUG: 'crypto,fs,stream,timer,module,worker',
      ...more,
    },
  })
  let output = ''
  child.stderr.on('data', chunk => {
    output += chunk
  })
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', chunk => {
      output += chunk
      if (String(chunk).includes('ready')) resolve()
    })
    child.once('exit', code => reject(new Error(`the child ended with ${code}: ${output.slice(-2000)}`)))
  })
  return { child, output, snapshot }
}

describe.each(['auto', 'node-forge'])(
  'the memory of a process that has worked in software (%s) and closed',
  engine => {
    test('holds no secret but those that are known to remain', async () => {
      const { child, output, snapshot } = await workedChild(engine)
      try {
        const heap = readFileSync(snapshot, 'utf8')
        expect(heap).toContain(`positive-control-${child.pid}`)
        const named = canariesOf({ ...PATTERNS, storedBlock, PIN: pin, PAN: pan })
        expect(found(heap, named)).toEqual([])
        // Not even what Node says of itself when it is asked to say much.
        expect(output.length).toBeGreaterThan(100)
        expect(found(output, named)).toEqual([])

        const refusal = cannotReadMemory(child.pid ?? 0)
        if (refusal !== undefined) {
          console.warn(`the memory of the child was not searched: ${refusal}`)
          return
        }
        const counts = scanMemory(child.pid ?? 0, { ...PATTERNS, 'positive control': kept })
        console.log(`memory after close, ${engine}: ${JSON.stringify(counts)}`)
        expect(counts['positive control']).toBeGreaterThan(0)
        const remaining = Object.keys(PATTERNS).filter(name => (counts[name] ?? 0) > 0)
        expect(remaining.filter(name => !MAY_REMAIN.includes(name))).toEqual([])
      } finally {
        child.kill('SIGKILL')
      }
    })
  },
)

test('the same search finds the keys in a process that has not closed', async () => {
  const { child } = await workedChild('auto', { LEAVE_OPEN: '1' })
  try {
    const refusal = cannotReadMemory(child.pid ?? 0)
    if (refusal !== undefined) {
      console.warn(`the memory of the child was not searched: ${refusal}`)
      return
    }
    const counts = scanMemory(child.pid ?? 0, PATTERNS)
    for (const name of ['PAN as ASCII', 'storage key', 'retail MAC key', 'private scalar']) {
      expect(counts[name], name).toBeGreaterThan(0)
    }
  } finally {
    child.kill('SIGKILL')
  }
})

test('the search of memory finds what a process keeps, at any place', () => {
  const secret = randomBytes(32)
  const holder = Buffer.alloc(1 << 20)
  secret.copy(holder, (1 << 20) - 32)
  const refusal = cannotReadMemory(process.pid)
  if (refusal !== undefined) {
    console.warn(`not run: ${refusal}`)
    return
  }
  expect(scanMemory(process.pid, { secret })['secret']).toBeGreaterThan(1)
  expect(holder.at(-1)).toBe(secret.at(-1))
})
