/**
 * An nginx for one test file: Debian's package in a folder of its own, on ports of 127.0.0.1 and Unix sockets, run in the
 * foreground and stopped at the end. It speaks TLS to D1 and passes the client certificate on in every way that is
 * documented, and in the ways that are traps.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { certificates } from '../test/d1/endpoints/support/wire.js'
import { freePort } from './ports.js'

const BINARY = ['/usr/sbin/nginx', '/usr/local/sbin/nginx'].find(existsSync)
const NJS = '/usr/lib/nginx/modules/ngx_http_js_module.so'
const { CI } = process.env
const START_ATTEMPTS = 600

/** The servers of the configuration, each on a port of its own. */
export const SERVERS = ['escaped', 'trap', 'unverified', 'rfc9440', 'mtls'] as const
export type ServerName = (typeof SERVERS)[number]

/** A `describe` with an nginx. Where it is missing the run says how to install it; in CI that is a failure. */
export function describeNginx(name: string, body: (nginx: Nginx) => void): void {
  if (BINARY !== undefined && existsSync(NJS)) {
    describe(name, () => {
      const nginx = new Nginx(BINARY)
      beforeAll(() => nginx.prepare())
      afterAll(() => nginx.stop())
      body(nginx)
    })
    return
  }
  const message = `${name}: not run, nginx is missing; install it with: sudo apt-get install nginx libnginx-mod-http-js`
  if (CI !== undefined) {
    test(name, () => {
      throw new Error(message)
    })
    return
  }
  console.warn(message)
  describe.skip(message, () => test(name, () => {}))
}

export class Nginx {
  readonly #binary: string
  readonly folder: string = mkdtempSync(join(tmpdir(), 'issuer-nginx-'))
  readonly ports = new Map<ServerName, number>()
  #process: ChildProcess | undefined

  constructor(binary: string) {
    this.#binary = binary
  }

  /** The Unix socket that the issuer is to listen on. */
  get socket(): string {
    return join(this.folder, 'issuer.sock')
  }

  async prepare(): Promise<void> {
    // The workers of an nginx that root starts are somebody else's.
    chmodSync(this.folder, 0o755)
    for (const server of SERVERS) this.ports.set(server, await freePort())
    const files = {
      'ca.pem': certificates.ca,
      'server.pem': certificates.server.cert,
      'server.key': certificates.server.key,
      'proxy.pem': certificates.proxy.cert,
      'proxy.key': certificates.proxy.key,
      'client-cert.js': `
        function header(r) {
          const pem = r.variables.ssl_client_raw_cert
          return pem ? ':' + pem.replace(/-----[^-]+-----|\\s/g, '') + ':' : ''
        }
        export default { header }`,
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.folder, name), text)
  }

  /** Starts it in front of the Unix socket, and of an HTTPS server on this port. */
  async start(httpsPort: number): Promise<void> {
    writeFileSync(join(this.folder, 'nginx.conf'), this.#configuration(httpsPort))
    const args = [
      '-p',
      this.folder,
      '-c',
      join(this.folder, 'nginx.conf'),
      '-e',
      join(this.folder, 'error.log'),
    ]
    this.#process = spawn(this.#binary, args, { stdio: 'ignore' })
    for (const port of this.ports.values()) await this.#answers(port)
  }

  async stop(): Promise<void> {
    if (this.#process !== undefined && this.#process.exitCode === null) {
      const ended = once(this.#process, 'exit')
      this.#process.kill('SIGTERM')
      await ended
    }
    rmSync(this.folder, { recursive: true, force: true })
  }

  async #answers(port: number): Promise<void> {
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      if (this.#process?.exitCode !== null) break
      const socket = connect(port, '127.0.0.1')
      const open = await new Promise<boolean>(resolve => {
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      })
      socket.destroy()
      if (open) return
      await wait(50)
    }
    throw new Error(
      `nginx does not start: ${readFileSync(join(this.folder, 'error.log'), 'utf8').slice(-500)}`,
    )
  }

  #configuration(httpsPort: number): string {
    const server = (name: ServerName, verify: string, location: string): string => `
      server {
        listen 127.0.0.1:${this.ports.get(name)} ssl http2;
        ssl_certificate server.pem;
        ssl_certificate_key server.key;
        ssl_client_certificate ca.pem;
        ssl_verify_client ${verify};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
        proxy_set_header X-SSL-Client-Verify $ssl_client_verify;
        location / { ${location} }
      }`
    const everyHeader = `
        proxy_set_header Connection "";
        proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
        proxy_set_header X-SSL-Client-Verify $ssl_client_verify;`
    return `
      daemon off;
      pid ${join(this.folder, 'nginx.pid')};
      worker_processes 1;
      load_module ${NJS};
      error_log ${join(this.folder, 'error.log')};
      events { worker_connections 256; }
      http {
        access_log off;
        js_path ${this.folder};
        js_import cert from client-cert.js;
        js_set $client_cert cert.header;
        ssl_protocols TLSv1.2 TLSv1.3;
        ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(what => `${what}_temp_path ${join(this.folder, what)};`).join('\n        ')}
        upstream issuer { server unix:${this.socket}; }
        ${server('escaped', 'on', `${everyHeader} proxy_pass http://issuer;`)}
        # A location with a header of its own inherits none of the server's: D1's and anybody's header goes through.
        ${server('trap', 'on', 'proxy_set_header X-Request-Start $msec; proxy_pass http://issuer;')}
        ${server('unverified', 'optional_no_ca', `${everyHeader} proxy_pass http://issuer;`)}
        ${server('rfc9440', 'on', 'proxy_set_header Client-Cert $client_cert; proxy_pass http://issuer;')}
        ${server(
          'mtls',
          'on',
          `${everyHeader}
          proxy_ssl_certificate proxy.pem;
          proxy_ssl_certificate_key proxy.key;
          proxy_ssl_trusted_certificate ca.pem;
          proxy_ssl_verify on;
          proxy_ssl_name localhost;
          proxy_pass https://127.0.0.1:${httpsPort};`,
        )}
      }`
  }
}
