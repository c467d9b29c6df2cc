/** The guides that need no token, as their reader does them: an empty folder, the packed tarball, the files and commands of the page. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { followPages, installTarball, stepsOf } from '../support/guide-page.js'
import { ROOT } from '../support/public-api.js'

const { packInto } = (await import(new URL('../../.ci/consumers.mjs', import.meta.url).href)) as {
  packInto: (folder: string) => { readonly tarball: string }
}

/** Guides whose commands are run elsewhere, and where. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'software-to-hsm.md': 'native-test/docs.test.ts',
  'your-hsm.md': 'native-test/docs.test.ts',
  'key-ceremony.md': 'native-test/docs.test.ts',
  'moving-blocks.md': 'native-test/docs.test.ts',
  'simulator.md': 'native-test/d1.serve.test.ts: it needs the repository, `npm run serve` and the simulator',
}
/** Commands that are not run, and why. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  'npm install': 'the tarball stands in node_modules instead: nothing is fetched by a test',
  openssl: 'a certificate of D1, which nobody here has',
  'docker compose': 'no Docker runs here: native-test/d1.deploy.test.ts starts the parts',
  'issuer-pin-crypto inspect': 'test/package/guide-commands.test.ts, with its picture',
  'issuer-pin-crypto profile': 'test/package/guide-commands.test.ts, with the samples beside it',
}
/** What a guide's programs print where it differs from run to run, and the page shows no block. */
const SAYS: Readonly<Record<string, RegExp>> = {
  'first-get-pin.md': /the PIN is 4711\n[\s\S]*Set PIN: 204\n[\s\S]*the PIN is 0815\n/,
  'seccos-profile.md': /guide-NOT-a-scheme illustrative\n[\s\S]*PRW winner\n/,
}
const GUIDES = readdirSync(join(ROOT, 'docs/guides'))
const HERE = GUIDES.filter(name => !Object.hasOwn(ELSEWHERE, name))

describe('the guides, from the tarball', () => {
  const home = mkdtempSync(join(tmpdir(), 'ipc-guides-'))
  beforeAll(() => installTarball(home, packInto(home).tarball))
  afterAll(() => rmSync(home, { recursive: true, force: true }))

  test('a page that says something wrong is found out', () => {
    expect(stepsOf('rotation.md').map(({ kind }) => kind)).toEqual(['file', 'run'])
    expect(stepsOf('mounting.md').at(-1)).toMatchObject({
      kind: 'run',
      prints: expect.stringContaining('Get PIN: 200'),
    })
  })

  test.each(HERE)('%s', async guide => {
    const ran = await followPages(home, [guide], { leaveOut: Object.keys(LEFT_OUT) })
    for (const { prints, printed } of ran) if (prints !== undefined) expect(printed).toBe(prints)
    const all = ran.map(({ printed }) => printed).join('')
    expect(all).toMatch(SAYS[guide] ?? /^/)
    const programs = stepsOf(guide).filter(step => step.kind === 'run')
    const isLeftOut = programs.every(
      step => step.kind === 'run' && Object.keys(LEFT_OUT).some(part => step.command.includes(part)),
    )
    expect(ran.length > 0 || isLeftOut).toBe(true)
  })

  test('what is run elsewhere is a guide, and every reason is used', () => {
    expect(Object.keys(ELSEWHERE).filter(name => !GUIDES.includes(name))).toEqual([])
    const commands = GUIDES.flatMap(stepsOf).flatMap(step => (step.kind === 'run' ? [step.command] : []))
    const unused = Object.keys(LEFT_OUT).filter(part => !commands.some(command => command.includes(part)))
    expect(unused).toEqual([])
  })
})
