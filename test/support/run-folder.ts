/**
 * A run of tests has a folder of its own for what its tests put into the temporary folder, and it fails where anything is
 * left there at the end: tokens, databases and keys of tests do not gather on a machine.
 */
import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GOING } from './scratch.js'

/** What tools keep between runs, by name: compiled TypeScript and the like. It stays where it is, and is linked. */
const CACHES: readonly string[] = [`tsx-${process.getuid?.() ?? 0}`, 'node-compile-cache']

/** What a browser leaves that is told to end. */
const FOREIGN = /^\.?(org\.chromium|com\.google|playwright)/

const MEMORY = '/dev/shm'
const ENOUGH = 4 * 2 ** 30

/**
 * Where the folder is made: in memory, where the machine has some for files (and lets programs in them run) and nobody named
 * another place. Databases wait for their disk at each commit, and a disk that is busy with other things lets a lane wait.
 */
function place(): string {
  if (process.env['TMPDIR'] !== undefined) return tmpdir()
  try {
    accessSync(MEMORY, constants.W_OK)
    const { bavail, bsize } = statfsSync(MEMORY)
    const mount = new RegExp(`^\\S+ ${MEMORY} tmpfs (\\S+)`, 'm').exec(readFileSync('/proc/mounts', 'utf8'))
    if (bavail * bsize >= ENOUGH && mount?.[1]?.split(',').includes('noexec') === false) return MEMORY
  } catch {
    // A machine without one.
  }
  return tmpdir()
}

export default function setup(): void {
  const outside = tmpdir()
  const folder = mkdtempSync(join(place(), 'ipc-run-'))
  // PostgreSQL and nginx run as users of their own, and come through here to theirs.
  chmodSync(folder, 0o755)
  for (const name of CACHES) {
    mkdirSync(join(outside, name), { recursive: true })
    symlinkSync(join(outside, name), join(folder, name))
  }
  writeFileSync(join(folder, GOING), '')
  process.env['TMPDIR'] = folder
  // Not in a teardown: at that time the workers that share files are still there, and so is what goes with them.
  process.once('exit', () => {
    const going = [...CACHES, GOING, ...readFileSync(join(folder, GOING), 'utf8').split('\n')]
    const left = readdirSync(folder).filter(name => !going.includes(name) && !FOREIGN.test(name))
    rmSync(folder, { recursive: true, force: true })
    if (left.length === 0) return
    console.error(`The tests left behind in the temporary folder: ${left.sort().join(', ')}`)
    process.exitCode = 1
  })
}
