/**
 * A PostgreSQL server for one test file: from the binaries of Debian's package, in a temporary folder, on a free port of
 * 127.0.0.1, stopped and removed at the end. It refuses to run as root, so that as root it runs as `postgres`.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { Client, type QueryResult } from 'pg'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { freePort } from './ports.js'

const { CI, POSTGRES_BIN } = process.env
const PASSWORD = 'superuser-8d1f0c'
const START_ATTEMPTS = 600

/** The folder of the newest installed server. */
function findServer(): string | undefined {
  const home = '/usr/lib/postgresql'
  const versions = existsSync(home) ? readdirSync(home).sort((a, b) => Number(b) - Number(a)) : []
  const folders = [POSTGRES_BIN ?? '', ...versions.map(version => join(home, version, 'bin'))]
  return folders.find(folder => existsSync(join(folder, 'initdb')))
}

const bin = findServer()

/**
 * A `describe` with a server of its own. Where PostgreSQL is missing the run says how to install it; in CI that is a
 * failure.
 */
export function describePostgres(name: string, body: (server: PostgresServer) => void): void {
  if (bin !== undefined) {
    describe(name, () => {
      const server = new PostgresServer()
      beforeAll(() => server.start())
      afterAll(() => server.remove())
      body(server)
    })
    return
  }
  const message = `${name}: not run, PostgreSQL is missing; install it with: sudo apt-get install postgresql`
  if (CI !== undefined) {
    test(name, () => {
      throw new Error(message)
    })
    return
  }
  console.warn(message)
  describe.skip(message, () => test(name, () => {}))
}

/** Whom the server runs as: nobody else where we are not root. */
function owner(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const [uid, gid] = ['-u', '-g'].map(flag =>
    Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout),
  )
  return { uid: uid ?? 0, gid: gid ?? 0 }
}

/** A base backup as a standby, started as it is (nobody should), or restored: recovered to its end, and promoted. */
export type CopyKind = 'standby' | 'copy' | 'restored'

export class PostgresServer {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'ipc-postgres-'))
  port = 0
  #process: ChildProcess | undefined
  #primary = ''
  readonly #owner = owner()
  readonly #settings: readonly string[]
  readonly #copyOf: { readonly server: PostgresServer; readonly as: CopyKind } | undefined

  /** `copyOf`: a base backup of a running server, as its standby, or started as it is (nobody should). */
  constructor(
    settings: readonly string[] = [],
    copyOf?: { readonly server: PostgresServer; readonly as: CopyKind },
  ) {
    this.#settings = settings
    this.#copyOf = copyOf
  }

  /** Makes the cluster where there is none yet, and starts it. Resolves when it answers. */
  async start(): Promise<void> {
    if (!existsSync(join(this.folder, 'data'))) await this.#init()
    const args = ['-D', join(this.folder, 'data'), '-p', String(this.port), '-k', this.folder]
    const settings = [
      'listen_addresses=127.0.0.1',
      'shared_buffers=16MB',
      // In its folder: what a killed server had in /dev/shm would stay there for ever.
      'dynamic_shared_memory_type=mmap',
      'max_connections=60',
      ...this.#settings,
    ]
    const launch = (): ChildProcess =>
      spawn(join(bin ?? '', 'postgres'), [...args, ...settings.flatMap(text => ['-c', text])], {
        ...this.#owner,
        stdio: 'ignore',
        cwd: this.folder,
      })
    this.#process = launch()
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      // It ends at once where the one before it has not quite let go of the folder.
      if (this.#process.exitCode !== null) this.#process = launch()
      const answered = await this.query('SELECT 1').catch(() => undefined)
      if (answered !== undefined) return
      await wait(50)
    }
    throw new Error('PostgreSQL does not start')
  }

  /** `SIGINT`: fast, clients are disconnected. `SIGQUIT`: as if the power failed. */
  async stop(signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (running === undefined || running.exitCode !== null) return
    const ended = once(running, 'exit')
    running.kill(signal)
    await ended
  }

  /** The power fails: the server and all its processes are gone at once. */
  async crash(): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (running?.pid === undefined || running.exitCode !== null) return
    const ended = once(running, 'exit')
    const children = this.#children(running.pid)
    running.kill('SIGKILL')
    for (const pid of children) signalTo(pid, 'SIGKILL')
    await ended
  }

  /** Lets a command put a backup where this server keeps its data, as its owner; `start` takes it from there. */
  async restore(
    command: (where: { readonly data: string; readonly uid?: number; readonly gid?: number }) => void,
  ): Promise<void> {
    this.port = await freePort()
    const { uid, gid } = this.#owner
    if (uid !== undefined && gid !== undefined) chownSync(this.folder, uid, gid)
    command({ data: join(this.folder, 'data'), ...this.#owner })
  }

  /** A standby becomes the primary. Resolves when it takes writes. */
  async promote(): Promise<void> {
    await this.query('SELECT pg_promote(true, 60)')
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      const { rows } = await this.query('SELECT pg_is_in_recovery() AS standby')
      if (rows[0]?.standby === false) return
      await wait(50)
    }
    throw new Error('PostgreSQL is not promoted')
  }

  /** Stops or continues what receives the WAL of the primary, without a word to either. */
  signalReceiver(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const pids = this.#children(this.#process?.pid ?? 0)
    const found = pids.filter(pid => {
      const file = `/proc/${pid}/cmdline`
      // One of the others may have ended since it was listed.
      return existsSync(file) && readFileSync(file, 'utf8').includes('walreceiver')
    })
    if (found.length === 0) throw new Error('there is no WAL receiver')
    for (const pid of found) signalTo(pid, signal)
  }

  /** This standby receives nothing more. What a stopped receiver has in its socket would be read when it goes on. */
  async stopReceiving(): Promise<void> {
    const { rows: settings } = await this.query('SHOW primary_conninfo')
    this.#primary = String(settings[0]?.primary_conninfo)
    await this.#receiveFrom('')
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      const { rows } = await this.query('SELECT count(*)::int AS n FROM pg_stat_wal_receiver')
      if (rows[0]?.n === 0) return
      await wait(50)
    }
    throw new Error('the standby goes on receiving')
  }

  /** After {@link stopReceiving}: all that the primary has until now arrives, and nothing more. */
  async receiveOnce(primary: PostgresServer): Promise<void> {
    await this.#receiveFrom(this.#primary)
    await this.caughtUp(primary)
    await this.stopReceiving()
  }

  async #receiveFrom(primary: string): Promise<void> {
    await this.query(`ALTER SYSTEM SET primary_conninfo = '${primary.replaceAll("'", "''")}'`)
    await this.query('SELECT pg_reload_conf()')
  }

  /** Resolves when this standby has all that the primary has. */
  async caughtUp(primary: PostgresServer): Promise<void> {
    const { rows } = await primary.query('SELECT pg_current_wal_lsn() AS lsn')
    const ask = 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS yes'
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      if ((await this.query(ask, [rows[0]?.lsn])).rows[0]?.yes === true) return
      await wait(50)
    }
    throw new Error('the standby does not catch up')
  }

  #children(pid: number): readonly number[] {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
    return text === '' ? [] : text.split(' ').map(Number)
  }

  async remove(): Promise<void> {
    await this.stop('SIGQUIT')
    this.#forgetMemory()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A server that was killed leaves a segment of System V memory, of which a machine has a few thousand. */
  #forgetMemory(): void {
    const file = join(this.folder, 'data/postmaster.pid')
    // Its seventh line: the key and the number of the segment. The file is gone where the server ended by itself.
    const segment = existsSync(file) && readFileSync(file, 'utf8').split('\n')[6]?.trim().split(/\s+/)[1]
    if (segment) spawnSync('ipcrm', ['-m', segment], { stdio: 'ignore' })
  }

  /** The superuser's; `password` is on purpose one that a test can look for. */
  get connectionString(): string {
    return `postgres://issuer:${PASSWORD}@127.0.0.1:${this.port}/postgres`
  }

  get password(): string {
    return PASSWORD
  }

  /** Runs a statement on a connection of its own. */
  async query(sql: string, values: unknown[] = []): Promise<QueryResult> {
    const client = new Client({ connectionString: this.connectionString })
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.query(sql, values)
    } finally {
      await client.end().catch(() => {})
    }
  }

  async #init(): Promise<void> {
    this.port = await freePort()
    const { uid, gid } = this.#owner
    if (uid !== undefined && gid !== undefined) chownSync(this.folder, uid, gid)
    if (this.#copyOf !== undefined) return this.#copy(this.#copyOf)
    const passwordFile = join(this.folder, 'password')
    writeFileSync(passwordFile, PASSWORD)
    const args = ['-D', join(this.folder, 'data'), '-U', 'issuer', '--pwfile', passwordFile]
    const more = ['--auth', 'scram-sha-256', '--encoding', 'UTF8', '--locale', 'C.UTF-8']
    const { status, stderr } = spawnSync(join(bin ?? '', 'initdb'), [...args, ...more], {
      ...this.#owner,
      encoding: 'utf8',
      cwd: this.folder,
    })
    if (status !== 0) throw new Error(`initdb: ${stderr}`)
  }

  #copy({ server, as }: { readonly server: PostgresServer; readonly as: CopyKind }): void {
    const from = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'issuer', '-c', 'fast']
    const args = ['-D', join(this.folder, 'data'), ...from, ...(as === 'standby' ? ['-R'] : [])]
    const { status, stderr } = spawnSync(join(bin ?? '', 'pg_basebackup'), args, {
      ...this.#owner,
      encoding: 'utf8',
      cwd: this.folder,
      env: { ...process.env, PGPASSWORD: PASSWORD },
    })
    if (status !== 0) throw new Error(`pg_basebackup: ${stderr}`)
    if (as !== 'restored') return
    this.#configure(
      "restore_command = 'false'",
      "recovery_target = 'immediate'",
      "recovery_target_action = 'promote'",
    )
    this.#signalFile('recovery.signal')
  }

  /** This server, stopped cleanly, becomes a standby of another one that was promoted meanwhile. */
  rewindTo(primary: PostgresServer): void {
    const source = `host=127.0.0.1 port=${primary.port} user=issuer password=${PASSWORD} dbname=postgres`
    const args = ['--target-pgdata', join(this.folder, 'data'), '--source-server', source]
    const { status, stderr } = spawnSync(join(bin ?? '', 'pg_rewind'), args, {
      ...this.#owner,
      encoding: 'utf8',
      cwd: this.folder,
    })
    if (status !== 0) throw new Error(`pg_rewind: ${stderr}`)
    this.#configure(`primary_conninfo = '${source}'`)
    this.#signalFile('standby.signal')
  }

  #configure(...lines: readonly string[]): void {
    appendFileSync(join(this.folder, 'data/postgresql.auto.conf'), `${lines.join('\n')}\n`)
  }

  #signalFile(name: string): void {
    const path = join(this.folder, 'data', name)
    writeFileSync(path, '')
    const { uid, gid } = this.#owner
    if (uid !== undefined && gid !== undefined) chownSync(path, uid, gid)
  }
}

/** A process that is gone already is no error. */
function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

const PGBOUNCER = '/usr/sbin/pgbouncer'

/** A PgBouncer in front of a server, pooling transactions: two server connections, however many come. */
export class Pooler {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ipc-pgbouncer-'))
  readonly #server: PostgresServer
  #process: ChildProcess | undefined
  port = 0

  constructor(server: PostgresServer) {
    this.#server = server
  }

  static isThere(): boolean {
    return existsSync(PGBOUNCER)
  }

  async start(): Promise<void> {
    if (this.port === 0) this.port = await freePort()
    const { uid, gid } = owner()
    const { port, password } = this.#server
    const users = join(this.#folder, 'users.txt')
    writeFileSync(users, `"issuer" "${password}"\n`)
    const file = join(this.#folder, 'pgbouncer.ini')
    const settings = {
      listen_addr: '127.0.0.1',
      listen_port: this.port,
      unix_socket_dir: '',
      auth_type: 'scram-sha-256',
      auth_file: users,
      admin_users: 'issuer',
      pool_mode: 'transaction',
      default_pool_size: 2,
      max_client_conn: 100,
      query_wait_timeout: 2,
      server_login_retry: 1,
    }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`)
    const databases = `[databases]\n* = host=127.0.0.1 port=${port}\n`
    writeFileSync(file, `${databases}[pgbouncer]\n${lines.join('\n')}\n`)
    if (uid !== undefined && gid !== undefined) {
      for (const path of [this.#folder, users, file]) chownSync(path, uid, gid)
    }
    this.#process = spawn(PGBOUNCER, ['-q', file], { ...owner(), stdio: 'ignore', cwd: this.#folder })
    for (let attempt = 0; attempt < START_ATTEMPTS; attempt++) {
      if (await this.command('SHOW VERSION').catch(() => undefined)) return
      await wait(50)
    }
    throw new Error('PgBouncer does not start')
  }

  /** A command for PgBouncer itself. */
  async command(sql: string): Promise<QueryResult> {
    const client = new Client({ connectionString: this.connectionString.replace(/postgres$/, 'pgbouncer') })
    client.on('error', () => {})
    try {
      await client.connect()
      return await client.query(sql)
    } finally {
      await client.end().catch(() => {})
    }
  }

  async stop(): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (running === undefined || running.exitCode !== null) return
    const ended = once(running, 'exit')
    running.kill('SIGKILL')
    await ended
  }

  async remove(): Promise<void> {
    await this.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  get connectionString(): string {
    return this.#server.connectionString.replace(/:[0-9]+\/postgres$/, `:${this.port}/postgres`)
  }
}
