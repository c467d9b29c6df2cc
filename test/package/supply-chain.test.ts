import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'

const ROOT = new URL('../..', import.meta.url).pathname
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')

interface Manifest {
  readonly dependencies: Readonly<Record<string, string>>
  readonly allowScripts: Readonly<Record<string, boolean>>
}
interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      { version?: string; integrity?: string; resolved?: string; hasInstallScript?: boolean; link?: boolean }
    >
  >
}
interface Listed {
  readonly name: string
  readonly licence: string
  readonly role: string
}
interface LicenceScript {
  packagesOf(lock: Lock, manifest: Manifest): readonly Listed[]
  licencePage(packages: readonly Listed[]): string
}

const MANIFEST = JSON.parse(read('package.json')) as Manifest
const LOCK = JSON.parse(read('package-lock.json')) as Lock

/** What may be linked into a payment service without asking a lawyer first (decision 0016). */
const FOR_USERS =
  /^(MIT|0BSD|ISC|Apache-2\.0|BSD-3-Clause|\(BSD-3-Clause OR GPL-2\.0\)|\(BSD-2-Clause OR MIT OR Apache-2\.0\)|\(MIT OR WTFPL\))$/
/** What a tool may have besides: it is run, and no part of it is shipped. */
const FOR_TOOLS =
  /^(0BSD|BSD-2-Clause|BlueOak-1\.0\.0|CC-BY-4\.0|MPL-2\.0|Python-2\.0|MIT OR Apache-2\.0|\(MIT AND Zlib\))$/

describe('licences', () => {
  let script: LicenceScript
  let packages: readonly Listed[]
  beforeAll(async () => {
    script = (await import(join(ROOT, '.ci/licences.mjs'))) as LicenceScript
    packages = script.packagesOf(LOCK, MANIFEST)
  })

  test('every package that a user installs has a licence we accept', () => {
    const shipped = packages.filter(({ role }) => role !== 'development')
    expect(shipped.length).toBeGreaterThan(4)
    expect(shipped.filter(({ licence }) => !FOR_USERS.test(licence))).toEqual([])
  })

  test('every tool has a licence we accept', () => {
    const wrong = packages.filter(({ licence }) => !FOR_USERS.test(licence) && !FOR_TOOLS.test(licence))
    expect(wrong).toEqual([])
  })

  test('docs/licences.md is what `npm run licences` writes', () => {
    expect(read('docs/licences.md')).toBe(script.licencePage(packages))
  })
})

describe('the software bill of materials', () => {
  test('names the two runtime dependencies, exactly, with licences and hashes', () => {
    const sbom = JSON.parse(
      execFileSync('npm', ['run', '--silent', 'sbom'], {
        cwd: ROOT,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }),
    ) as {
      bomFormat: string
      components: { name: string; version: string; licenses?: object[]; hashes?: object[] }[]
    }
    expect(sbom.bomFormat).toBe('CycloneDX')
    expect(sbom.components.map(({ name }) => name).sort()).toEqual(Object.keys(MANIFEST.dependencies).sort())
    for (const { name, version, licenses, hashes } of sbom.components) {
      expect(version).toBe(LOCK.packages[`node_modules/${name}`]?.version)
      expect(licenses?.length).toBeGreaterThan(0)
      expect(hashes?.length).toBeGreaterThan(0)
    }
  })
})

describe('the lockfile', () => {
  // The root, the workspaces and the links to them are ours.
  const installed = Object.entries(LOCK.packages).filter(
    ([path, { link }]) => path.startsWith('node_modules/') && link !== true,
  )

  test('pins every package by a hash', () => {
    expect(installed.filter(([, { integrity }]) => integrity === undefined).map(([path]) => path)).toEqual([])
  })

  test('only packages that are denied by name have install scripts', () => {
    const names = installed
      .filter(([, { hasInstallScript }]) => hasInstallScript === true)
      .map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
    // fsevents is for macOS alone, and optional; npm asks there.
    const undecided = names.filter(name => MANIFEST.allowScripts[name] !== false && name !== 'fsevents')
    expect(undecided).toEqual([])
  })
})

describe('npm ci', () => {
  /** Whether npm runs the install script of a package, in a folder that has our `.npmrc` or none. */
  function runsScripts(npmrc: boolean): boolean {
    const folder = mkdtempSync(join(tmpdir(), 'ipc-npm-'))
    const run = (cwd: string, ...args: string[]) =>
      execFileSync('npm', [...args, '--offline', '--no-audit', '--no-fund', '--silent'], { cwd, env: CLEAN })
    try {
      const [dependency, app, marker] = ['dependency', 'app', 'marker'].map(name => join(folder, name)) as [
        string,
        string,
        string,
      ]
      const script = `node -e "require('fs').writeFileSync(process.env.MARKER, '')"`
      for (const [path, manifest] of [
        [dependency, { name: 'dependency', version: '1.0.0', scripts: { install: script } }],
        [
          app,
          {
            name: 'app',
            version: '1.0.0',
            dependencies: { dependency: 'file:../dependency/dependency-1.0.0.tgz' },
            // What npm 11 asks for; npm 10 ignores it.
            allowScripts: { dependency: true },
          },
        ],
      ] as const) {
        mkdirSync(path)
        writeFileSync(join(path, 'package.json'), JSON.stringify(manifest))
      }
      CLEAN['MARKER'] = marker
      run(dependency, 'pack')
      if (npmrc) copyFileSync(join(ROOT, '.npmrc'), join(app, '.npmrc'))
      run(app, 'install')
      return existsSync(marker)
    } finally {
      rmSync(folder, { recursive: true })
    }
  }

  /** Without what npm itself hands to the scripts it runs, such as this test. */
  const CLEAN: NodeJS.ProcessEnv = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.toLowerCase().startsWith('npm_')),
  )

  test('runs no install script, whatever allowScripts says; without our .npmrc it does', () => {
    expect(runsScripts(true)).toBe(false)
    expect(runsScripts(false)).toBe(true)
  })
})
