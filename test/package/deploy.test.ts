/**
 * What stands in examples/deploy, as far as it can be looked at without Docker: files that are copied exist, command lines are
 * ones that `serve` takes, ports and paths agree, and nothing runs as root or writes outside of its volume.
 */
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { readOptions } from '../../examples/serve/options.js'
import { NGINX } from '../../examples/serve/server.js'
import { ROOT } from '../support/public-api.js'
import { someOf } from '../support/some-of.js'

const read = (name: string): string => readFileSync(join(ROOT, 'examples/deploy', name), 'utf8')
const dockerfile = read('Dockerfile')
const compose = read('compose.yaml')
const kubernetes = read('kubernetes.yaml')
const nginx = read('nginx.conf')
/** What the command lines name as holding a secret. */
const ENVIRONMENT = { TOKEN_PIN: 'x' }

/** A list of words in quotes, as JSON and YAML have it. */
const words = (list: string | undefined): string[] => JSON.parse(list ?? expect.fail('no such list'))

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  Dockerfile: words(/^CMD (\[.*\])$/m.exec(dockerfile)?.[1]),
  'kubernetes.yaml': words(/args: (\[.*\])/.exec(kubernetes)?.[1]),
  'compose.yaml': (/exec node serve\.mjs ([\s\S]*?)\n {4}\S/.exec(compose)?.[1] ?? '').trim().split(/\s+/),
}

/** A service of compose.yaml. */
const serviceOf = (name: string): string =>
  new RegExp(`\\n {2}${name}:\\n((?: {4}.*\\n)+)`).exec(compose)?.[1] ?? expect.fail(`no ${name}`)

describe('deployments', () => {
  test.each(Object.entries(COMMANDS))('%s: serve takes the command line', (_name, args) => {
    const options = readOptions(args, ENVIRONMENT) ?? expect.fail('no options')
    expect(options.dir.startsWith('/data/')).toBe(true)
    expect(options.audit).toBe('-')
    expect(options.health).toBeDefined()
  })

  test('a wrong option would be seen', () => {
    expect(() => readOptions([...(COMMANDS['Dockerfile'] ?? []), '--no-such'], {})).toThrow('--no-such')
  })

  test('Dockerfile: what it copies and runs exists; it does not run as root, and asks for health where that is', () => {
    for (const [, script = ''] of someOf(dockerfile.matchAll(/node (examples\S+)/g))) {
      expect(existsSync(join(ROOT, script))).toBe(true)
    }
    for (const [, file = ''] of someOf(dockerfile.matchAll(/^COPY (examples\S+)/gm))) {
      expect(existsSync(join(ROOT, file))).toBe(true)
    }
    const [hsm = '', stage = ''] = dockerfile.slice(dockerfile.indexOf(' AS hsm')).split(/^FROM .*slim$/m)
    expect(hsm.indexOf('USER hsm')).toBeGreaterThan(0)
    expect(hsm.indexOf('USER hsm')).toBeLessThan(hsm.indexOf('ENTRYPOINT'))
    expect(stage).toMatch(/^USER node$/m)
    expect(stage.indexOf('USER node')).toBeLessThan(stage.indexOf('ENTRYPOINT'))
    expect(stage.match(/127\.0\.0\.1:(\d+)\/readyz/)?.[1]).toBe(
      String(readOptions(COMMANDS['Dockerfile'] ?? [], {})?.health),
    )
    expect(dockerfile).toMatch(/^EXPOSE 8443$/m)
    // No package list stays in a layer, and nothing comes without being named.
    expect(dockerfile.match(/apt-get install/g)?.length).toBe(
      dockerfile.match(/--no-install-recommends/g)?.length,
    )
  })

  test('compose: every file, volume and secret that is used is there or declared; no secret is on a command line', () => {
    for (const [, path = ''] of someOf(compose.matchAll(/dockerfile: (\S+)/g)))
      expect(existsSync(join(ROOT, path))).toBe(true)
    for (const [, path = ''] of someOf(compose.matchAll(/- \.\/(\S+?):/g))) {
      expect(existsSync(join(ROOT, 'examples/deploy', path))).toBe(true)
    }
    const declared = compose.slice(compose.indexOf('\nvolumes:'))
    const used = [...compose.matchAll(/volumes: \[(.*)\]/g)].flatMap(([, list = '']) => list.split(', '))
    expect(used.length).toBeGreaterThan(3)
    for (const volume of used) expect(declared).toContain(`\n  ${volume.split(':')[0]}:`)
    for (const service of ['issuer', 'hsm', 'nginx']) {
      expect(serviceOf(service)).toMatch(/^ {4}read_only: true$/m)
      expect(serviceOf(service)).toMatch(/^ {4}cap_drop: \["ALL"\]$/m)
      expect(serviceOf(service)).toContain('no-new-privileges')
    }
    expect(compose).not.toMatch(/postgres:\/\/\w+:\S+@/)
  })

  test('the token: the service reaches the socket that hsm.sh makes, and no file of the token', () => {
    const hsm = read('hsm.sh')
    expect(statSync(join(ROOT, 'examples/deploy/hsm.sh')).mode & 0o111).toBe(0o111)
    const [, socket = ''] = /P11_KIT_SERVER_ADDRESS: unix:path=(\S+)/.exec(compose) ?? []
    expect(hsm).toContain(`--name ${socket} `)
    expect(dockerfile).toContain(`CMD ["test", "-S", "${socket}"]`)
    const [issuer, token] = [serviceOf('issuer'), serviceOf('hsm')]
    expect(issuer).toContain(`hsm-socket:${dirname(socket)},`)
    expect(issuer).not.toContain('tokens:')
    expect(token).toContain('network_mode: none')
    expect(token).toContain('init: true')
    expect(token).toContain(`volumes: [tokens:/var/lib/hsm, hsm-socket:${dirname(socket)}]`)
    expect(hsm).toContain('home=/var/lib/hsm')
    const [, library = ''] = /--module (\S+)/.exec(compose) ?? []
    expect(dockerfile).toContain(`p11-kit-client.so ${library}\n`)
    // 0.24, of Debian 12, would hand on neither CBC nor ECDH.
    for (const [, image = ''] of someOf(dockerfile.matchAll(/^FROM (\S+)/gm)))
      expect(image).toContain('trixie')
  })

  test('secrets are not committed, and not sent to the build', () => {
    expect(readFileSync(join(ROOT, '.gitignore'), 'utf8')).toContain('/examples/deploy/secrets\n')
    const ignored = read('Dockerfile.dockerignore').split('\n')
    for (const path of ['examples/deploy/secrets', '.git', '**/node_modules']) expect(ignored).toContain(path)
    for (const [, path = ''] of someOf(compose.matchAll(/file: \.\/(\S+) \}/g)))
      expect(path).toMatch(/^secrets\//)
  })

  test('nginx: its own user is the issuer’s; it has the socket, the certificates and nothing else of the issuer', () => {
    const { place } = readOptions(COMMANDS['compose.yaml'] ?? [], ENVIRONMENT) ?? expect.fail('no options')
    const socket = 'socket' in place ? place.socket : expect.fail('no socket')
    const [issuer, front] = [serviceOf('issuer'), serviceOf('nginx')]
    expect(nginx).toContain(`proxy_pass http://unix:${socket};`)
    expect(issuer).toContain(`d1-socket:${dirname(socket)}]`)
    expect(front).toContain(`- d1-socket:${dirname(socket)}:ro`)
    expect(dockerfile).toContain(`mkdir /data /run/hsm ${dirname(socket)} && chown node:node`)
    expect(front).toContain('user: "1000:1000"')
    expect(front).toContain('networks: ["front"]')
    // On 443 of this machine, which is what the greeting says without --url.
    expect(place).toMatchObject({ url: 'https://localhost' })
    expect(front).toContain("ports: ['0.0.0.0:443:8444']")
    expect(nginx).toContain('listen 8444 ssl;')
    const used = someOf(nginx.matchAll(/\/etc\/nginx\/tls\/(\S+);/g))
    for (const [, name] of used) {
      const target = `target: /etc/nginx/tls/${name}, read_only: true, volume: { subpath: run/${name} }`
      expect(front).toContain(`source: run, ${target}`)
    }
    expect(front.match(/- /g)).toHaveLength(2 + used.length)
  })

  test('nginx states the certificate by the headers that the issuer reads, in the one location that there is', () => {
    const [location = '', ...others] = nginx.split(/^ *location /m).slice(1)
    expect(others).toEqual([])
    expect(location).toContain(`proxy_set_header ${NGINX.header.certificate} $ssl_client_escaped_cert;`)
    expect(location).toContain(`proxy_set_header ${NGINX.header.verify} $ssl_client_verify;`)
    expect(nginx.match(/proxy_set_header/g)?.length).toBe(location.match(/proxy_set_header/g)?.length)
    expect(nginx).toContain('ssl_verify_client on;')
  })

  test('Kubernetes asks for health where that is, from inside, and leads to the port on which it listens', () => {
    const { health } = readOptions(COMMANDS['kubernetes.yaml'] ?? [], {}) ?? expect.fail('no options')
    for (const path of ['readyz', 'livez'])
      expect(kubernetes).toContain(`fetch('http://127.0.0.1:${health}/${path}')`)
    expect(kubernetes).toContain('containerPort: 8443')
    expect(kubernetes).toContain('readOnlyRootFilesystem: true')
    expect(kubernetes).toContain('runAsNonRoot: true')
    const grace = Number(
      /GRACE_MS = ([\d_]+)/
        .exec(readFileSync(join(ROOT, 'examples/serve/server.ts'), 'utf8'))?.[1]
        ?.replaceAll('_', ''),
    )
    expect(Number(/terminationGracePeriodSeconds: (\d+)/.exec(kubernetes)?.[1]) * 1000).toBeGreaterThan(grace)
  })
})
