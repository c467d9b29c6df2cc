/**
 * The folder of a test issuer: everything that is made once. It is made beside its place and moved there when it is
 * complete, so that a start which is killed leaves no half of it, and two starts at once get the same one.
 */
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { UsageError } from './options.js'

/** A file by its name in the folder. */
export interface NewFile {
  readonly name: string
  readonly text: string
  /** Readable by everybody; else 0600. */
  readonly public?: boolean
}

/** Which keys and data stand in the folder: a start with others would find PIN blocks that it cannot read. */
export interface Stamp {
  readonly backend: string
  readonly store: string
}

const STAMP = 'serve.json'
const LOCK = 'serve.lock'

export class Folder {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** The folder, made with `files` where it is not there. Throws {@link UsageError} for one of something else. */
  static open(dir: string, stamp: Stamp, files: () => readonly NewFile[]): Folder {
    const folder = new Folder(resolve(dir))
    if (!existsSync(folder.file(STAMP))) folder.#make(stamp, files)
    const there = folder.readJson<Stamp>(STAMP)
    if (there.backend !== stamp.backend || there.store !== stamp.store) {
      const made = `--backend ${there.backend} --store ${there.store}`
      throw new UsageError(`${folder.path} was made with ${made}; take the same, or another --dir`)
    }
    return folder
  }

  #make(stamp: Stamp, files: () => readonly NewFile[]): void {
    if (existsSync(this.path) && readdirSync(this.path).length > 0) {
      throw new UsageError(`${this.path} is not empty, and was not made by serve`)
    }
    mkdirSync(dirname(this.path), { recursive: true })
    const draft = new Folder(mkdtempSync(`${this.path}.making-`))
    for (const file of files()) draft.write(file)
    draft.write({ name: STAMP, text: JSON.stringify(stamp) })
    try {
      renameSync(draft.path, this.path)
    } catch (error) {
      rmSync(draft.path, { recursive: true })
      // Somebody else was first.
      if (!existsSync(this.file(STAMP))) throw error
    }
  }

  /**
   * Takes the folder for this process: a second one would write other answers into `simulator.json`, and with the store in
   * memory answer from other cards. The lock of a process that is gone is taken over.
   *
   * Throws {@link UsageError} where another process has it.
   */
  lock(): Disposable {
    const path = this.file(LOCK)
    const draft = this.file(`${LOCK}.${process.pid}`)
    writeFileSync(draft, String(process.pid), { mode: 0o600 })
    try {
      for (let i = 0; i < 2; i++) {
        if (linked(draft, path)) return { [Symbol.dispose]: () => rmSync(path, { force: true }) }
        const there = readIfThere(path)
        const owner = Number(there)
        if (isAlive(owner)) {
          throw new UsageError(
            `another serve (process ${owner}) runs on ${this.path}; stop it, or take another --dir. ` +
              `Where that process is something else, remove ${path}`,
          )
        }
        // Moved away and looked at again: somebody else may have taken it over in between.
        const taken = `${draft}.old`
        if (!moved(path, taken)) continue
        if (readIfThere(taken) !== there) linked(taken, path)
        rmSync(taken, { force: true })
      }
    } finally {
      rmSync(draft, { force: true })
    }
    throw new UsageError(`another serve has just started on ${this.path}`)
  }

  file(name: string): string {
    return join(this.path, name)
  }

  read(name: string): string {
    return readFileSync(this.file(name), 'utf8')
  }

  /** A file of JSON. Throws {@link UsageError} for one that is none: V8's own error quotes it, and it may be a key. */
  readJson<T>(name: string): T {
    const text = this.read(name)
    try {
      return JSON.parse(text)
    } catch {
      throw new UsageError(`${this.file(name)} is not JSON`)
    }
  }

  /** Writes a file as a whole: whoever reads it meanwhile sees the old one or the new one. */
  write({ name, text, public: isPublic = false }: NewFile): void {
    const draft = this.file(`${name}.${process.pid}`)
    writeFileSync(draft, text, { mode: isPublic ? 0o644 : 0o600 })
    chmodSync(draft, isPublic ? 0o644 : 0o600)
    renameSync(draft, this.file(name))
  }
}

/** True where `path` did not exist, and is now another name of `file`: one process alone can succeed. */
function linked(file: string, path: string): boolean {
  return done(() => linkSync(file, path), 'EEXIST')
}

function moved(from: string, to: string): boolean {
  return done(() => renameSync(from, to), 'ENOENT')
}

function done(call: () => void, otherwise: string): boolean {
  try {
    call()
    return true
  } catch (error) {
    if (Reflect.get(Object(error), 'code') === otherwise) return false
    throw error
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid < 1 || pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // It lives, and is somebody else's.
    return Reflect.get(Object(error), 'code') === 'EPERM'
  }
}
