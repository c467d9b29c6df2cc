import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { markdownExamples, readExample, runOnSources } from '../support/markdown-examples.js'
import { ROOT } from '../support/public-api.js'
import { someOf } from '../support/some-of.js'

const GUIDES = readdirSync(join(ROOT, 'docs/guides')).map(name => ({
  name,
  text: readFileSync(join(ROOT, 'docs/guides', name), 'utf8'),
}))
const SHOWN = GUIDES.flatMap(({ name, text }) =>
  markdownExamples(text).map(example => ({ guide: name, ...example })),
)
const OUTPUTS = GUIDES.flatMap(({ name, text }) =>
  markdownExamples(text, 'output').map(example => ({ guide: name, ...example })),
)

/** Files of examples/guides that no guide shows, and why. */
const NOT_SHOWN: Readonly<Record<string, string>> = {
  'examples/guides/seccos-profile/samples.json':
    'three data sets in hex, which the commands of the guide read',
}

/** What is run here, and what it must print. The rest needs a token, and is run in native-test/docs.test.ts. */
const PROGRAMS: readonly [path: string, prints: RegExp][] = [
  ['first-get-pin/main.ts', /the PIN is 4711\n[\s\S]*Set PIN: 204\n[\s\S]*the PIN is 0815\n$/],
  [
    'software-to-hsm/start.ts',
    /ok: true[\s\S]*stored 8 bytes under Key PEK-STORE \(pin-encryption, tdea-2key/,
  ],
  ['seccos-profile/read.ts', /guide-NOT-a-scheme illustrative\n[\s\S]*pcc: '0007'/],
  ['seccos-profile/probe.ts', /PRW winner\n[\s\S]*MAC winner\n[\s\S]*a draft, to be confirmed: \d+ fields/],
  ['verifying-a-pin/verify.ts', /verified false, tries left 2\n[\s\S]*verified true, tries left 3\n$/],
  [
    'mounting/main.ts',
    /a route of your own\n[\s\S]*Get PIN: 200 type, encryptedPinBlock\n[\s\S]*not there: 404\n$/,
  ],
  [
    'registering-cards/register.ts',
    /first run: aborted, 5 of 8 [\s\S]*second run: complete, 7 of 8 registered, 1 not\n$/,
  ],
  [
    'rotation/rotate.ts',
    /(\{ well: 20, wrong: 0 \}\n[\s\S]*){2}\{ left: 0, wrong: 0 \} others were served\n[\s\S]*well: 20, wrong: 0/,
  ],
  ['moving-blocks/move.ts', /moved: \{ moved: 1, changed: 0, left: 0 \}[\s\S]*the same PIN: true\n$/],
  ['key-ceremony/rehearse.ts', /^(component \d +KCV [0-9A-F]{6} .*\n){3}ZPK-D1-2026 +KCV [0-9A-F]{6}/],
]

const printed = new Map<string, string>()
/** What a program prints; one whose output a guide shows is not run again for what it must print. */
function outputOf(path: string): string {
  const output = printed.get(path) ?? runOnSources(ROOT, path)
  printed.set(path, output)
  return output
}

describe('the guides', () => {
  test.each(SHOWN)('$guide shows $path as it is', example => {
    expect(example.code).toBe(readExample(ROOT, example))
  })

  test.each(OUTPUTS)('$guide shows what $path prints', ({ path, code }) => {
    expect(code).toBe(outputOf(path))
  })

  test('are numbered from the first to the last, and each leads to the next and back', () => {
    const numbered = GUIDES.map(({ name, text }) => {
      const [, place, count] =
        /^# .+\n\n\*\*Guide (\d+) of (\d+)\.\*\* You need: .+\. You get: .+\.\n/.exec(text) ?? []
      return { name, text, place: Number(place), count: Number(count) }
    }).sort((a, b) => a.place - b.place)
    expect(numbered.map(({ place }) => place)).toEqual(GUIDES.map((_, i) => i + 1))
    expect(new Set(numbered.map(({ count }) => count))).toEqual(new Set([GUIDES.length]))
    for (const [i, { text }] of numbered.entries()) {
      const foot = text.slice(text.lastIndexOf('\n---\n'))
      expect(/Previous: \[.+?\]\((\S+?)\)/.exec(foot)?.[1]).toBe(numbered[i - 1]?.name)
      expect(/Next: \[.+?\]\((\S+?)\)/.exec(foot)?.[1]).toBe(numbered[i + 1]?.name)
    }
  })

  test('say above each program, for readers too, which file it is, and below it how it is run, or by what it is used', () => {
    const shown = GUIDES.flatMap(({ name, text }) =>
      [...text.matchAll(/<!-- example: (\S+) -->\n```\w+\n[\s\S]*?```\n/g)].map(([whole, path = '']) => ({
        name,
        text,
        whole,
        path,
      })),
    )
    for (const { name, text, whole, path } of someOf(shown)) {
      expect(text).toContain(`*${path.split('/').at(-1)}*\n\n<!-- example: ${path} -->`)
      const below = text.slice(text.indexOf(whole) + whole.length)
      expect(below, `${name}: below ${path}`).toMatch(/^\n(Run it|Used by)\b/)
    }
  })

  test('say by which words the search shall find them', () => {
    for (const { name, text } of GUIDES) expect(text, name).toMatch(/\n\n<!-- found by: [^>]{40,} -->\n\n/)
  })

  test('show no program that is not a file', () => {
    const anonymous = GUIDES.flatMap(({ name, text }) =>
      Array.from(text.matchAll(/(?<! -->\n)```(?:ts|typescript|js)\n/g), () => name),
    )
    expect(anonymous).toEqual([])
  })

  test('show every file of examples/guides, but for those with a reason', () => {
    const files = readdirSync(join(ROOT, 'examples/guides'), { recursive: true, encoding: 'utf8' })
      .filter(name => /\.\w+$/.test(name))
      .map(name => `examples/guides/${name}`)
    const shown = new Set([...SHOWN.map(({ path }) => path), ...Object.keys(NOT_SHOWN)])
    expect(files.filter(path => !shown.has(path))).toEqual([])
    for (const path of Object.keys(NOT_SHOWN)) expect(existsSync(join(ROOT, path))).toBe(true)
  })

  test.each(PROGRAMS)('%s runs and prints what the guide says', (path, prints) => {
    expect(outputOf(`examples/guides/${path}`)).toMatch(prints)
  })
})

test('what the functions of the guides do is what the guides say', () => {
  expect(runOnSources(ROOT, 'test/docs/guide-functions.ts')).toBe('as the guides say\n')
})
