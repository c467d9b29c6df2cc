/**
 * What many operations leave in memory, and how long a full token takes to list: `npm run soak`, with `-- --write` its report
 * into docs/measurements/pkcs11-soak.md.
 *
 *     npm run soak -- --operations 300000 --keys 2000 --write
 *
 * Each executor works in a process of its own, on SoftHSM. The resident memory of that process and of its children is read
 * after a collection every so many operations; a line through the second half says what one operation leaves. Key
 * agreement runs in rows of its own, for the module leaks there by itself.
 */
import { spawnSync } from 'node:child_process'
import { createECDH } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { performance } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { operationsOf } from '../src/backend/key.js'
import { openPkcs11 } from '../src/backend/pkcs11/backend.js'
import { CKA, CKO } from '../src/backend/pkcs11/binding/constants.js'
import { findObjects, readAttribute } from '../src/backend/pkcs11/mechanisms/objects.js'
import { openKeyStore } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { starterFromSources } from './faults/shim.js'
import { provision } from './provision.js'
import { onToken, strayKey } from './raw.js'
import { makeToken, SOFTHSM_MODULE } from './softhsm.js'

const { values } = parseArgs({
  options: {
    write: { type: 'boolean', default: false },
    operations: { type: 'string', default: '300000' },
    keys: { type: 'string', default: '2000' },
    one: { type: 'string' },
  },
})
const OPERATIONS = Number(values.operations)
const KEYS = Number(values.keys)
const CALLERS = 16
const SAMPLES = 30

const WAYS = [
  ['inline', 'pkcs11js', 'mixed'],
  ['inline', 'koffi', 'mixed'],
  ['threads', 'koffi', 'mixed'],
  ['process', 'koffi', 'mixed'],
  ['inline', 'pkcs11js', 'key agreement'],
  ['inline', 'koffi', 'key agreement'],
] as const

interface Row {
  readonly way: string
  readonly operations: number
  readonly wrong: number
  readonly startMb: number
  readonly endMb: number
  /** Bytes that an operation leaves: all memory of all processes, and what V8 and its buffers hold of it. */
  readonly perOperation: number
  readonly ofV8: number
  readonly seconds: number
}

/** Resident bytes of this process and of those that it started. */
function resident(): number {
  const of = (pid: string): number => {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return 1024 * Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0)
  }
  const children = readdirSync('/proc').filter(entry => {
    if (!/^\d+$/.test(entry)) return false
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8').replace(/^.*\) \w/, '')
      return / (\d+) /.exec(stat)?.[1] === `${process.pid}`
    } catch {
      return false
    }
  })
  return [`${process.pid}`, ...children].reduce((sum, pid) => sum + of(pid), 0)
}

/** The slope of the line that fits best. */
function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (at: 0 | 1): number => points.reduce((sum, point) => sum + point[at], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const over = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return over / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}

async function runOne(at: number): Promise<Row> {
  const [executor, binding, what] = WAYS[at] ?? WAYS[0]
  const token = { ...makeToken('soak'), composedMac: true, binding } as const
  await provision(token, CONTRACT_KEYS)
  const open = { ...token, executor, sessions: { max: 4 }, keepAliveMs: 5000 } as const
  await using backend = await openPkcs11(open, undefined, { starter: starterFromSources() })
  const of = async (
    kid: string,
    usage: 'pin-encryption' | 'cmac' | 'retail-mac' | 'jwe-key-agreement' | 'jwt-signing',
  ) => operationsOf(await backend.bind({ kid, usage, hostDecipher: usage === 'pin-encryption' }))
  const pek = await of('PEK-2', 'pin-encryption')
  const aes = await of('PEK-A', 'pin-encryption')
  const cmac = await of('CMAC-A', 'cmac')
  const retail = await of('MAC-3', 'retail-mac')
  const jwe = await of('JWE-D1', 'jwe-key-agreement')
  const signer = await of('SIGN-1', 'jwt-signing')
  const block = new Uint8Array(8)
  const field = new Uint8Array(16)
  const many = new Uint8Array(8 * 64)
  const message = new Uint8Array(123)
  const request = {
    ephemeralPublicKey: new Uint8Array(createECDH('prime256v1').generateKeys()),
    otherInfo: new Uint8Array(40),
    length: 16,
  }
  const agree = () => jwe.deriveContentKey(request)
  const mixed: readonly (() => Promise<Uint8Array>)[] = [
    () => pek.encipher(block),
    () => pek.decipher(block),
    () => pek.encipher(many),
    () => aes.encipherBound(field, field),
    () => cmac.mac({ algorithm: 'cmac', padding: 'none' }, message),
    () => retail.mac({ algorithm: 'iso9797-1-alg3', padding: 2 }, message),
    () => backend.randomBytes(32),
    () => pek.encipher(block),
  ]
  const calls = what === 'mixed' ? mixed : [agree]
  const random = 6
  const right = await Promise.all(calls.map(call => call()))
  let wrong = 0
  let done = 0
  const total = what === 'mixed' ? OPERATIONS : Math.round(OPERATIONS / 10)
  const points: [operations: number, resident: number, v8: number][] = []
  const start = performance.now()
  for (let sample = 0; sample < SAMPLES; sample++) {
    const until = Math.round((total * (sample + 1)) / SAMPLES)
    await Promise.all(
      Array.from({ length: CALLERS }, async () => {
        while (done < until) {
          const which = done++ % calls.length
          const answer = await (calls[which] as () => Promise<Uint8Array>)()
          if ((what !== 'mixed' || which !== random) && Buffer.compare(answer, right[which] ?? block) !== 0)
            wrong++
          // One in a thousand is a signature, and a failure that costs a session nothing.
          if (what === 'mixed' && done % 1000 === 0) await signer.sign(message)
        }
      }),
    )
    globalThis.gc?.()
    globalThis.gc?.()
    const { heapUsed, external } = process.memoryUsage()
    points.push([done, resident(), heapUsed + external])
  }
  const second = points.slice(SAMPLES / 2)
  const mb = (point: readonly number[] | undefined): number => Math.round((point?.[1] ?? 0) / 1e5) / 10
  return {
    way: `${what}, ${executor}, ${binding}`,
    operations: done,
    wrong,
    startMb: mb(points[0]),
    endMb: mb(points.at(-1)),
    perOperation: slope(second.map(([x, y]) => [x, y])),
    ofV8: slope(second.map(([x, , y]) => [x, y])),
    seconds: (performance.now() - start) / 1000,
  }
}

interface Listing {
  readonly keys: number
  readonly seconds: number
  readonly rawSeconds: number
}

/** A token with so many keys: listed, and the bare reading of as many attributes of each beside it. */
async function listMany(keys: number): Promise<Listing> {
  const token = makeToken(`keys ${keys}`)
  const template = (i: number) =>
    strayKey(
      `K${i}`,
      [[CKA.ID, Buffer.from(`id ${i}`)]],
      Uint8Array.from({ length: 16 }, (_, at) => (i >> (at % 2 ? 8 : 0)) ^ (at * 37)),
    )
  await onToken(token, ({ binding, session }) => {
    for (let i = 0; i < keys; i++) binding.C_CreateObject(session, template(i))
  })
  await using store = await openKeyStore(token)
  let progress = 0
  const start = performance.now()
  const listed = await store.listKeys({ onProgress: () => progress++ })
  const seconds = (performance.now() - start) / 1000
  if (listed.length !== keys || progress !== keys) throw new Error(`${listed.length} keys listed of ${keys}`)
  // What one line of the list has to know: class, label, id, type, protection, role bits, dates, check value.
  const wanted = [
    ...[CKA.CLASS, CKA.LABEL, CKA.ID, CKA.KEY_TYPE, CKA.NEVER_EXTRACTABLE, CKA.ALWAYS_SENSITIVE, CKA.PRIVATE],
    ...[CKA.MODIFIABLE, CKA.SENSITIVE, CKA.EXTRACTABLE, CKA.COPYABLE, CKA.ENCRYPT, CKA.DECRYPT, CKA.SIGN],
    ...[CKA.VERIFY, CKA.WRAP, CKA.UNWRAP, CKA.DERIVE, CKA.CHECK_VALUE],
  ]
  const rawSeconds = await onToken(token, ({ binding, session }) => {
    const begun = performance.now()
    const objects = findObjects(
      binding,
      session,
      [
        [CKA.TOKEN, true],
        [CKA.CLASS, CKO.SECRET_KEY],
      ],
      100_000,
    )
    for (const object of objects) for (const type of wanted) readAttribute(binding, session, object, type)
    return (performance.now() - begun) / 1000
  })
  return { keys, seconds, rawSeconds }
}

const say = (row: Row): string =>
  `| ${row.way} | ${row.operations} | ${row.wrong} | ${row.startMb} | ${row.endMb} | ${row.perOperation.toFixed(0)} | ${row.ofV8.toFixed(0)} | ${row.seconds.toFixed(0)} |`

if (SOFTHSM_MODULE === undefined) throw new Error('SoftHSM is not installed: npm run setup')
if (values.one !== undefined) {
  console.log(JSON.stringify(await runOne(Number(values.one))))
} else {
  const listings = [await listMany(Math.round(KEYS / 4)), await listMany(KEYS)]
  for (const listing of listings) console.log(listing)
  const rows: Row[] = []
  for (const at of WAYS.keys()) {
    const node = ['--expose-gc', ...process.execArgv, process.argv[1] ?? '']
    const { stdout, status } = spawnSync(
      process.execPath,
      [...node, '--one', `${at}`, '--operations', values.operations],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    if (status !== 0) throw new Error(`row ${at} failed`)
    rows.push(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Row)
    console.log(say(rows.at(-1) as Row))
  }
  if (values.write) {
    const listed = listings.map(
      ({ keys, seconds, rawSeconds }) =>
        `| ${keys} | ${seconds.toFixed(2)} | ${rawSeconds.toFixed(2)} | ${(seconds / rawSeconds).toFixed(2)} |`,
    )
    const page = `# PKCS#11: memory and long lists

${new Date().toISOString().slice(0, 10)}, \`npm run soak -- --operations ${values.operations} --keys ${values.keys} --write\`; SoftHSM, Node ${process.version}, 2 cores
shared with other work (load average ${loadavg()[0]?.toFixed(0)} at the end), ${CALLERS} callers.

## Memory

Mixed: encipherment of 1 and of 64 blocks, decipherment, format 4, CMAC, composed retail MAC, random bytes, and a signature in a
thousand; every answer but random bytes is compared. "Left" is the slope of the resident memory of all processes over the second half
of the run, in bytes an operation; "of V8's" is the same of heap and buffers of the process that calls, after a collection.

| what | operations | wrong | MB at first | MB at last | left | of V8's | seconds |
|---|---:|---:|---:|---:|---:|---:|---:|
${rows.map(say).join('\n')}

What is left by key agreement is C_DeriveKey's: SoftHSM leaks 241 bytes a call in pure C, and pkcs11js 15 more.

## A full token

\`listKeys\` beside a bare loop over pkcs11js that finds the keys and reads as many attributes of each, in seconds. The ratio has to stay: what grows
more than linearly here is SoftHSM's own.

| keys | listKeys | bare reading | ratio |
|---:|---:|---:|---:|
${listed.join('\n')}
`
    writeFileSync(new URL('../docs/measurements/pkcs11-soak.md', import.meta.url), page)
  }
  if (rows.some(({ wrong }) => wrong > 0)) process.exitCode = 1
}
