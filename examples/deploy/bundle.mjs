/**
 * Bundles the example issuer into one file, with what lies beside it: `node examples/deploy/bundle.mjs OUT`, after
 * `npm run build`. Optional packages are not in the bundle: koffi (prebuilt) and pg are installed beside it.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { argv } from 'node:process'
import { build } from 'esbuild'

const ROOT = new URL('../..', import.meta.url).pathname
const out = resolve(argv[2] ?? 'out')
mkdirSync(out, { recursive: true })
await build({
  entryPoints: [join(ROOT, 'examples/serve/main.ts')],
  outfile: join(out, 'serve.mjs'),
  bundle: true,
  platform: 'node',
  target: 'node22',
  format: 'esm',
  tsconfig: join(ROOT, 'tsconfig.test.json'),
  // node-forge calls `require`, which an ESM file does not have.
  banner: {
    js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url)",
  },
  logLevel: 'error',
})
copyFileSync(join(ROOT, 'dist/sqlite-host.mjs'), join(out, 'sqlite-host.mjs'))
const { peerDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const { koffi, pg } = peerDependencies
writeFileSync(
  join(out, 'package.json'),
  JSON.stringify({ private: true, type: 'module', dependencies: { koffi, pg } }),
)
if (!argv.includes('--offline')) {
  execFileSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: out,
    stdio: 'inherit',
  })
}
