/** Serves a folder of static files on localhost, and nothing beside it. */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join } from 'node:path'

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
}

export interface SiteServer extends Disposable {
  /** Such as `http://127.0.0.1:40123`. */
  readonly origin: string
  /** Every file, as a path from the root: `functions/encipherPin.html`. */
  readonly files: ReadonlySet<string>
}

export async function serveSite(folder: string): Promise<SiteServer> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true })
  const files = new Set(
    entries
      .filter(entry => entry.isFile())
      .map(entry => join(entry.parentPath, entry.name).slice(folder.length).replace(/^\//, '')),
  )
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost')
    const path = decodeURIComponent(pathname).slice(1) || 'index.html'
    if (!files.has(path)) {
      response.writeHead(404).end()
      return
    }
    response.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' })
    response.end(readFileSync(join(folder, path)))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address() as AddressInfo
  return {
    origin: `http://127.0.0.1:${port}`,
    files,
    [Symbol.dispose]: () => {
      server.close()
      server.closeAllConnections()
    },
  }
}
