/**
 * Ports for programs that must be told theirs before they run (nginx, PostgreSQL, PgBouncer). One that `listen(0)` gave and
 * that was closed again is anybody's: the system gives it to the next connection, of this run or of another on the machine.
 * These are below those that the system gives out, and each is held by a name of the machine for as long as the process is there.
 */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'

const LOWEST = 15_000
const held: Server[] = []

/** The first port that the system gives to connections; none is given below it. */
function firstOfSystem(): number {
  try {
    return Number(/\d+/.exec(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8'))?.[0])
  } catch {
    return 32_768
  }
}

async function listens(server: Server, ...where: [string] | [number, string]): Promise<boolean> {
  try {
    await once(server.listen(...(where as [number, string])), 'listening')
    return true
  } catch {
    return false
  }
}

/** A port of 127.0.0.1 that nobody has and nobody else is told, on this machine and until this process ends. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = randomInt(LOWEST, Math.max(firstOfSystem(), LOWEST + 5000))
    // An abstract name of Linux: gone with the process, however that ends. Elsewhere there is no other way than luck.
    const holder = createServer().unref()
    if (process.platform === 'linux' && !(await listens(holder, `\0issuer-pin-crypto/port/${port}`))) continue
    const trial = createServer()
    const free = await listens(trial, port, '127.0.0.1')
    await new Promise(resolve => trial.close(resolve))
    if (free) {
      held.push(holder)
      return port
    }
    holder.close()
  }
  throw new Error('no port is free')
}
