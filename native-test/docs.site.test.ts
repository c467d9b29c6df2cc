/** The site is built without a warning, and a real browser opens a part of it (all of it: `npm run site:check`). */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { runOnSources } from '../test/support/markdown-examples.js'

const ROOT = new URL('..', import.meta.url).pathname
const folder = mkdtempSync(join(tmpdir(), 'ipc-site-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A browser that shows ninety pages takes a minute of a quiet machine. */
const LIMIT_MS = 1_200_000

const hasBrowser = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].some(
  existsSync,
)
const missing = 'not looked at: no Chromium; install it with: sudo apt-get install chromium fonts-dejavu-core'

test(
  'TypeDoc builds the site, and every warning would be an error',
  () => {
    const typedoc = join(ROOT, 'node_modules/typedoc/bin/typedoc')
    execFileSync(process.execPath, [typedoc, '--out', folder], { cwd: ROOT, stdio: 'pipe' })
    expect(existsSync(join(folder, 'functions/issuer-pin-crypto.encipherPin.html'))).toBe(true)
    // Every page that the plain index names is there.
    const named = Array.from(
      readFileSync(join(folder, 'llms.txt'), 'utf8').matchAll(/\]\((\S+)\)/g),
      ([, url = '']) => url,
    )
    expect(named.length).toBeGreaterThan(60)
    expect(named.filter(url => !existsSync(join(folder, url)))).toEqual([])
  },
  LIMIT_MS,
)

if (hasBrowser) {
  test(
    'the browser finds nothing wrong',
    () => {
      const looked = runOnSources(ROOT, 'test/docs/site.browser.ts', {}, [folder, '--pages', '20'], LIMIT_MS)
      expect(looked).toMatch(/: all well\n$/)
    },
    LIMIT_MS,
  )
} else {
  console.warn(missing)
  test.skip(`the browser finds nothing wrong (${missing})`, () => {})
}
