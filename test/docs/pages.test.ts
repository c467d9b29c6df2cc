/**
 * The pages of error codes and vendors are made from the code's own tables, so that they cannot go stale.
 * `npx vitest run --project 'unit*' test/docs/pages.test.ts -u` writes them anew.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ErrorCode } from '../../src/base/errors.js'
import { ERRORS, errorIndex, errorPage } from '../../tools/pages/errors.js'
import { VENDOR_NAMES, vendorIndex, vendorPage } from '../../tools/pages/vendors.js'
import { ENTRY_POINTS, ROOT } from '../support/public-api.js'

const DOCS = new URL('../../docs/', import.meta.url)
const CODES = Object.keys(ERRORS) as ErrorCode[]

test('the tables of codes and of vendors', async () => {
  await expect(errorIndex()).toMatchFileSnapshot('../../docs/errors.md')
  await expect(vendorIndex()).toMatchFileSnapshot('../../docs/vendors.md')
})

test.each(CODES)('the page of %s', async code => {
  await expect(errorPage(code)).toMatchFileSnapshot(`../../docs/errors/${code}.md`)
})

test.each(VENDOR_NAMES)('the page of %s', async vendor => {
  await expect(vendorPage(vendor)).toMatchFileSnapshot(`../../docs/vendors/${vendor}.md`)
})

test('no page is of something that is not there any more, and every page leads to pages that are', () => {
  const named = (folder: string): string[] =>
    readdirSync(new URL(folder, DOCS)).map(name => name.replace(/\.md$/, ''))
  expect(named('errors/').sort()).toEqual([...CODES].sort())
  expect(named('vendors/').sort()).toEqual([...VENDOR_NAMES].sort())
  for (const [, path] of CODES.flatMap(code => ERRORS[code].see ?? []))
    expect(existsSync(new URL(path, new URL('errors/', DOCS))), path).toBe(true)
})

/** Names of Markdown files in the plain text of a page: the site takes them for hosts of the country of that code, and links there. */
function namesTakenForHosts(text: string): string[] {
  const plain = text
    .replaceAll(/```[\s\S]*?```/g, '')
    .replaceAll(/^ {4}.*$/gm, '')
    .replaceAll(/`[^`]*`/g, '')
    .replaceAll(/!?\[[^\]]*\]\([^)]*\)/g, '')
    .replaceAll(/<!--[\s\S]*?-->/g, '')
  return plain.match(/(?<![/\w.-])[\w-]+\.md\b/g) ?? []
}

test('a file of Markdown is named as code or as a link', () => {
  expect(namesTakenForHosts('title that SECURITY.md\nnamed, `a.md`, [b.md](b.md), docs/c.md')).toEqual([
    'SECURITY.md',
  ])
  const pages = readdirSync(DOCS, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.md'))
  expect(pages.length).toBeGreaterThan(100)
  for (const page of pages)
    expect([page, namesTakenForHosts(readFileSync(new URL(page, DOCS), 'utf8'))]).toEqual([page, []])
})

/** The pages that a page of Markdown links to. */
function linksOf(page: URL): readonly URL[] {
  const links = readFileSync(page, 'utf8').matchAll(/\]\(([\w./-]+\.md)[#)]/g)
  return Array.from(links, ([, path = '']) => new URL(path, page))
}

test.each([
  ['how do I mount it beside other routes?', 'guides/mounting.md', /app\.use\(/],
  ['what does ERR_HOST_DECIPHER want?', 'errors/ERR_HOST_DECIPHER.md', /`hostDecipher: true`/],
  ['how do I rotate a key?', 'guides/rotation.md', /storage rotate/],
  ['what does a failover of the database cost?', 'databases.md', /What a failover can lose/],
  ['and one of the HSM?', 'operations.md', /## Failover/],
  ['how do I check our HSM?', 'guides/your-hsm.md', /backendContract/],
])('%s The README leads there in two clicks', (_question, path, answer) => {
  const first = linksOf(new URL('../README.md', DOCS))
  const found = new Set([...first, ...first.flatMap(linksOf)].map(({ href }) => href))
  const page = new URL(path, DOCS)
  expect(found).toContain(page.href)
  expect(readFileSync(page, 'utf8')).toMatch(answer)
})

test('a page that names a function of a subpath names the subpath as well', async () => {
  const subpathsOf = new Map<string, string[]>()
  for (const [subpath, path] of ENTRY_POINTS) {
    const exported: object = await import(join(ROOT, path))
    for (const name of Object.keys(exported)) subpathsOf.set(name, [...(subpathsOf.get(name) ?? []), subpath])
  }
  const pages = ['../README.md', '../SECURITY.md', ...markdownOf('.'), ...markdownOf('guides')]
  const silent = pages.flatMap(page => {
    const text = readFileSync(new URL(page, DOCS), 'utf8')
    const isNamed = (subpath: string): boolean => {
      const [, short] = subpath.split('/')
      return (
        short === undefined || [subpath, `\`…/${short}\``, `\`/${short}\``].some(form => text.includes(form))
      )
    }
    const prose = text.replaceAll(/```[\s\S]*?```/g, '')
    const names = new Set(
      Array.from(prose.matchAll(/`(?:await )?(\w+)(?:\([^`]*)?`/g), ([, name = '']) => name),
    )
    return [...names]
      .filter(name => !(subpathsOf.get(name) ?? ['issuer-pin-crypto']).some(isNamed))
      .map(name => `${page}: ${name} is of ${subpathsOf.get(name)}`)
  })
  expect(silent).toEqual([])
})

/** The pages of a folder of docs. */
function markdownOf(folder: string): readonly string[] {
  return readdirSync(new URL(`${folder}/`, DOCS))
    .filter(name => name.endsWith('.md'))
    .map(name => `${folder}/${name}`)
}
