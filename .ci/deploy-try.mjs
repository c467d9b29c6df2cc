/**
 * The containers of compose.yaml that have no image here, without Docker: `npm run deploy:try`, as root on a Debian with a network. A
 * folder gets the packages of Debian 13 that the Dockerfile installs, nginx, Node 24 and the bundle; in it (chroot, user 1000) hsm.sh, the
 * service and nginx run with the command lines of Dockerfile and compose.yaml and with nginx.conf, but for the store (memory) and the
 * ports. The D1 simulator plays all its cases through nginx; then the token's process is ended and started again under a service that
 * stays. `npm run build` comes first.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as wait } from 'node:timers/promises'

const PACKAGES = ['p11-kit', 'p11-kit-modules', 'softhsm2', 'nginx', 'dash', 'coreutils']
const MIRROR = 'http://deb.debian.org/debian'
const KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg'
const SOCKET = 'run/hsm/pkcs11'
const PORT = 18_443
const ROOT = new URL('..', import.meta.url).pathname
const deploy = name => join(ROOT, 'examples/deploy', name)

if (process.getuid?.() !== 0 || process.platform !== 'linux' || !existsSync(KEYS)) {
  console.error('deploy:try needs root on a Debian: it unpacks packages of Debian 13 and runs them by chroot')
  process.exit(2)
}
const work = mkdtempSync(join(tmpdir(), 'ipc-deploy-try-'))
const root = join(work, 'root')
const started = []
// The programs are in process groups of their own, which Ctrl-C does not reach.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    tidy()
    process.exit(1)
  })
}
try {
  const version = unpack()
  install()
  await run(version)
} finally {
  tidy()
}

function tidy() {
  for (const child of started)
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL')
  rmSync(work, { recursive: true, force: true })
}

/** The packages with all they depend on, unpacked; no script of theirs runs. The version of p11-kit. */
function unpack() {
  const lists = join(work, 'lists')
  const archives = join(work, 'debs')
  for (const folder of [join(lists, 'partial'), archives, root]) mkdirSync(folder, { recursive: true })
  const sources = join(work, 'sources.list')
  writeFileSync(sources, `deb [signed-by=${KEYS}] ${MIRROR} trixie main\n`)
  const settings = {
    'Dir::Etc::sourcelist': sources,
    'Dir::Etc::sourceparts': '/nonexistent',
    'Dir::State::lists': lists,
  }
  const options = Object.entries({ ...settings, 'Dir::Cache': work, 'APT::Sandbox::User': 'root' }).flatMap(
    ([name, value]) => ['-o', `${name}=${value}`],
  )
  const apt = (tool, ...args) =>
    execFileSync(tool, [...options, ...args], {
      cwd: archives,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    })
  apt('apt-get', 'update', '-qq')
  const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map(
    name => `--no-${name}`,
  )
  const closure = apt('apt-cache', 'depends', '--recurse', ...only, ...PACKAGES)
  const names = [...new Set(closure.match(/^[a-z0-9][a-z0-9.+-]*$/gm))]
  apt('apt-get', 'download', '-qq', ...names)
  for (const folder of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', folder), { recursive: true })
    symlinkSync(`usr/${folder}`, join(root, folder))
  }
  const all =
    'for deb in *.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$1" || exit 1; done'
  execFileSync('sh', ['-c', all, 'sh', root], { cwd: archives })
  return apt('apt-cache', 'show', 'p11-kit').match(/^Version: (\S+)/m)?.[1]
}

/** What the Dockerfile puts beside the packages, and the devices that Docker makes. */
function install() {
  const home = join(work, 'node')
  mkdirSync(home)
  writeFileSync(join(home, 'package.json'), '{"private":true}')
  const name = `node-${process.platform}-${process.arch}`
  execFileSync('npm', ['install', '--silent', '--ignore-scripts', `${name}@24`], {
    cwd: home,
    stdio: 'inherit',
  })
  copyFileSync(join(home, 'node_modules', name, 'bin/node'), join(root, 'usr/bin/node'))
  execFileSync(process.execPath, [deploy('bundle.mjs'), join(root, 'app')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const own = ['data', 'tmp', 'run/hsm', 'run/issuer', 'var/lib/hsm']
  for (const folder of [...own, 'dev', 'run/secrets']) mkdirSync(join(root, folder), { recursive: true })
  for (const [device, minor] of [
    ['null', 3],
    ['urandom', 9],
    ['random', 8],
  ]) {
    execFileSync('mknod', ['-m', '666', join(root, 'dev', device), 'c', '1', String(minor)])
  }
  execFileSync('chown', ['1000:1000', ...own.map(folder => join(root, folder))])
  execFileSync('chroot', [
    root,
    '/bin/sh',
    '-c',
    'ln -s /usr/lib/*/pkcs11/p11-kit-client.so /usr/lib/p11-kit-client.so',
  ])
  const configuration = readFileSync(deploy('nginx.conf'), 'utf8').replace('listen 8444 ', `listen ${PORT} `)
  writeFileSync(join(root, 'etc/nginx/nginx.conf'), configuration)
  symlinkSync('/data/run', join(root, 'etc/nginx/tls'))
  copyFileSync(deploy('hsm.sh'), join(root, 'hsm.sh'))
  chmodSync(join(root, 'hsm.sh'), 0o755)
  writeFileSync(join(root, 'run/secrets/token-pin'), '8f0c2a7d\n')
}

/** Starts a program as user 1000 of the root folder, in a process group of its own. */
function start(environment, ...command) {
  const args = [
    '--userspec=1000:1000',
    root,
    '/usr/bin/env',
    '-i',
    'PATH=/usr/bin',
    ...environment,
    ...command,
  ]
  const child = spawn('chroot', args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] })
  started.push(child)
  return child
}

async function startToken() {
  const child = start([], '/hsm.sh')
  child.stderr.pipe(process.stderr)
  for (let attempt = 0; attempt < 200 && !existsSync(join(root, SOCKET)); attempt++) await wait(50)
  if (!existsSync(join(root, SOCKET))) throw new Error('hsm.sh has made no socket')
  return child
}

async function run(version) {
  const token = await startToken()
  const compose = readFileSync(deploy('compose.yaml'), 'utf8')
  const [, line = ''] = /exec node (serve\.mjs [\s\S]*?)\n {4}\S/.exec(compose) ?? []
  const command = line.trim().replace(/--store postgres --postgres \S+/, '--store memory')
  const address = /P11_KIT_SERVER_ADDRESS: (\S+)/.exec(compose)?.[1]
  const environment = [`P11_KIT_SERVER_ADDRESS=${address}`, 'TOKEN_PIN=8f0c2a7d', 'NODE_ENV=production']
  const args = [
    ...command.replace('serve.mjs', '/app/serve.mjs').split(/\s+/),
    '--url',
    `https://localhost:${PORT}`,
  ]
  const service = start(environment, 'node', ...args.map(word => (word === '8081' ? '0' : word)))
  const said = []
  const lines = createInterface(service.stderr).on('line', text => said.push(text))
  const ended = once(service, 'exit').then(() => Promise.reject(new Error(said.join('\n'))))
  ended.catch(() => {})
  while (!said.some(text => text.includes('Ctrl-C'))) await Promise.race([once(lines, 'line'), ended])
  const health = said.join('\n').match(/\/readyz on (\S+)/)?.[1]
  console.log(`well    p11-kit ${version}: the service is up, its keys are in the token's process`)

  const nginx = start([], '/usr/sbin/nginx', '-g', 'daemon off;')
  createInterface(nginx.stderr).on('line', text => /\[(emerg|alert|crit)\]/.test(text) && console.error(text))
  const simulator = join(ROOT, 'packages/d1-simulator/dist/bin.js')
  const config = join(root, 'data/run/simulator.json')
  const played = () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [simulator, '--config', config], {
      encoding: 'utf8',
    })
    const last = stdout.trim().split('\n').at(-1)
    if (status !== 0) throw new Error(`the simulator: ${last}\n${stdout}${stderr}`)
    return last
  }
  console.log(`well    d1-simulator: ${played()}`)

  process.kill(-token.pid, 'SIGKILL')
  await once(token, 'exit')
  const away = (await fetch(`${health}/readyz`)).status
  if (away !== 503) throw new Error(`/readyz is ${away} without the token's process`)
  // So that the socket which is waited for is the new one.
  rmSync(join(root, SOCKET), { force: true })
  await startToken()
  let status = 0
  for (let attempt = 0; attempt < 100 && status !== 200; attempt++, await wait(100)) {
    status = (await fetch(`${health}/readyz`)).status
  }
  if (status !== 200) throw new Error(`/readyz is ${status} after the token's process has started again`)
  console.log(
    `well    the token's process killed: /readyz ${away}; started again: /readyz ${status}; ${played()}`,
  )

  service.kill('SIGTERM')
  const [code] = await once(service, 'exit')
  if (code !== 0) throw new Error(`SIGTERM: exit status ${code}`)
  console.log('well    SIGTERM: exit status 0')
}
