/**
 * Opens every page of the site in a real browser, wide and narrow, and says what is wrong: console errors, requests that
 * fail or leave the machine, links and anchors that lead nowhere, a page that overflows, a search that does not find.
 *
 *     npm run site && npm run site:check
 *
 *     tsx test/docs/site.browser.ts [folder] [--pages 40] [--pictures folder]
 *
 * With `--pages`, so many pages spread over the site are opened instead of all; links are then checked for their pages
 * everywhere, and for their anchors where the page was opened.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { type Browser, chromium, type Page } from 'playwright-core'
import { fromHex } from '../../src/base/bytes.js'
import { Pan } from '../../src/primitives/pan.js'
import { ILLUSTRATIVE_NOT_GIROCARD_TDEA } from '../../src/seccos/profile/illustrative.js'
import { inspectDataSet, inspectJweHeader, inspectPinBlock } from '../../src/tools/inspect/inspect.js'
import { type SiteServer, serveSite } from '../support/site-server.js'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
const IN_PAGE = readFileSync(new URL('in-page.js', import.meta.url), 'utf8')
const WIDE = { width: 1280, height: 900 }
const NARROW = { width: 360, height: 740 }
const TABS = 3
/** Documents, but for the pages of single codes and vendors, which are made by one function each. */
const IS_DOCUMENT = /^documents\/(?!err_)/
/** Those that are looked at whatever is left out: all but decisions, of which one looks like the other. */
const IS_ALWAYS = /^documents\/(?!err_|\d{4}-)/
/** What a machine that does much else may need for one step. */
const STEP_MS = 240_000
/** So many characters of code are seen without scrolling, at 1280 px. */
const CODE_COLUMNS = 84

/** Pages that are looked at by people too, when a folder for pictures is given. */
const PICTURES = [
  'index.html',
  'documents/key-ceremony.html',
  'documents/err_host_decipher.html',
  'documents/rotation-1.html',
  'documents/running-in-production.html',
  'documents/migration.html',
]

interface Link {
  readonly from: string
  readonly to: string
  readonly anchor: string
}

/** What one page is made of. */
interface Seen {
  readonly links: readonly string[]
  readonly ids: readonly string[]
  readonly heading: string
  readonly tables: number
  readonly colouredCode: number
  readonly plainCode: number
  /** Characters of code that a line of this page has room for; undefined where it has no code. */
  readonly codeColumns: number | undefined
}

const problems: string[] = []
const links: Link[] = []
const anchors = new Map<string, ReadonlySet<string>>()
const totals = { tables: 0, code: 0 }

const { values, positionals } = parseArgs({
  options: { pages: { type: 'string' }, pictures: { type: 'string' } },
  allowPositionals: true,
})
const folder = resolve(positionals[0] ?? 'site')
const { pictures } = values
const executablePath = CHROMIUM.find(path => existsSync(path))
if (!existsSync(join(folder, 'index.html'))) throw new Error(`no site in ${folder}: npm run site`)
if (executablePath === undefined) {
  throw new Error('no Chromium: install it with: sudo apt-get install chromium fonts-dejavu-core')
}

const begun = performance.now()
using site = await serveSite(folder)
const browser = await chromium.launch({ executablePath, args: ARGUMENTS })
const pages = spread([...site.files].filter(path => path.endsWith('.html')).sort(), Number(values.pages))
try {
  const left = [...pages]
  await Promise.all(Array.from({ length: TABS }, () => inTab(browser, left)))
  await checkMenu(browser).catch((error: Error) => problems.push(`menu: ${error.message}`))
  await checkSearch(browser).catch((error: Error) => problems.push(`search: ${error.message}`))
  await checkInspector(browser).catch((error: Error) => problems.push(`inspector: ${error.message}`))
} finally {
  await browser.close()
}
checkLinks(site)
if (totals.tables === 0 || totals.code === 0)
  problems.push('no table, or no coloured code, in the whole site')

const seconds = ((performance.now() - begun) / 1000).toFixed(0)
const summary = `${pages.length} pages, ${links.length} links, ${totals.tables} tables, ${totals.code} code blocks`
console.log(`${summary}, ${seconds} s: ${problems.length === 0 ? 'all well' : `${problems.length} problems`}`)
for (const problem of problems.slice(0, 100)) console.log(`- ${problem}`)
if (problems.length > 0) process.exitCode = 1

/** So many of them, the first included; all where no number is given. */
function spread(paths: readonly string[], count: number): readonly string[] {
  const step = count > 0 ? Math.max(1, Math.ceil(paths.length / count)) : 1
  return paths.filter((path, i) => i % step === 0 || path === 'index.html' || IS_ALWAYS.test(path))
}

async function inTab(browser: Browser, left: string[]): Promise<void> {
  const page = await watchedPage(browser)
  for (let path = left.shift(); path !== undefined; path = left.shift()) await checkPage(page, path)
}

/** A tab that reports whatever goes wrong, and lets no request leave the machine. */
async function watchedPage(browser: Browser): Promise<Page> {
  const page = await browser.newPage({ viewport: WIDE })
  page.setDefaultTimeout(STEP_MS)
  const note = (what: string): void => void problems.push(`${page.url().slice(site.origin.length)}: ${what}`)
  await page.addInitScript(IN_PAGE)
  page.on('console', message => {
    if (['error', 'warning'].includes(message.type())) note(`console: ${message.text()}`)
  })
  page.on('pageerror', error => note(`script: ${error.message}`))
  page.on('requestfailed', request => note(`request failed: ${request.url()}`))
  page.on('response', response => {
    if (response.status() >= 400) note(`${response.status()}: ${response.url()}`)
  })
  await page.route(
    url => url.origin !== site.origin && url.protocol !== 'file:',
    route => {
      note(`request to another host: ${route.request().url()}`)
      return route.abort()
    },
  )
  return page
}

async function checkPage(page: Page, path: string): Promise<void> {
  // Has no menu: a page of its own, which checkInspector looks at.
  if (path === 'inspector.html') return
  await page.setViewportSize(WIDE)
  await page.goto(`${site.origin}/${path}`, { waitUntil: 'load' })
  // The navigation comes by script; links in it count too.
  await page.waitForSelector('#tsd-nav-container a', { state: 'attached' })
  const seen = await page.evaluate<Seen>('siteCheck.look()')
  anchors.set(path, new Set(seen.ids))
  for (const href of seen.links) addLink(path, href)
  if (seen.heading === '') problems.push(`${path}: no heading`)
  if (seen.plainCode > 0) problems.push(`${path}: ${seen.plainCode} code blocks without colours`)
  if (IS_DOCUMENT.test(path) && seen.codeColumns !== undefined && seen.codeColumns < CODE_COLUMNS)
    problems.push(`${path}: a line of code has room for ${seen.codeColumns} characters, not ${CODE_COLUMNS}`)
  totals.tables += seen.tables
  totals.code += seen.colouredCode
  for (const size of [WIDE, NARROW]) {
    await page.setViewportSize(size)
    for (const what of await page.evaluate<string[]>('siteCheck.overflowing()'))
      problems.push(`${path}: at ${size.width} px: ${what}`)
    if (pictures !== undefined && PICTURES.includes(path)) {
      const name = `${path.replace(/\W/g, '-')}-${size.width}.png`
      await page.screenshot({ path: join(pictures, name), fullPage: size === NARROW })
    }
  }
}

function addLink(from: string, href: string): void {
  const url = new URL(href)
  if (url.origin !== site.origin) {
    if (url.protocol !== 'https:') problems.push(`${from}: a link to ${href}`)
    return
  }
  const to = decodeURIComponent(url.pathname).slice(1) || 'index.html'
  links.push({ from, to, anchor: decodeURIComponent(url.hash.slice(1)) })
}

function checkLinks({ files }: SiteServer): void {
  const broken = new Set<string>()
  for (const { from, to, anchor } of links) {
    if (!files.has(to)) broken.add(`${from}: a link to ${to}, which is not there`)
    else if (anchor !== '' && anchors.get(to)?.has(anchor) === false) {
      broken.add(`${from}: a link to ${to}#${anchor}, which is not there`)
    }
  }
  problems.push(...broken)
}

/** What a reader does: type a name, press Enter, be on its page. */
async function checkSearch(browser: Browser): Promise<void> {
  const page = await watchedPage(browser)
  for (const [typed, title] of [
    ['encipherPin', 'encipherPin'],
    ['key ceremony', 'Key ceremony'],
    ['ERR_HOST_DECIPHER', 'ERR_HOST_DECIPHER'],
    ['what does ERR_HOST_DECIPHER want', 'ERR_HOST_DECIPHER'],
    ['mounting', 'Mounting it beside other routes'],
    ['mount beside other routes', 'Mounting it beside other routes'],
    ['how to mount it beside other routes', 'Mounting it beside other routes'],
    ['how to rotate a key', 'Rotating a key while the service runs'],
    ['rotate a key', 'Rotating a key while the service runs'],
    ['failover', 'Running the databases'],
    ['what does a failover cost', 'Running the databases'],
    ['check my HSM', 'Running against your HSM'],
    ['how do I check our HSM', 'Running against your HSM'],
    ['verify a PIN', 'Verifying a PIN at authorisation'],
    ['hostDecipher', '#hostdecipher'],
    ['Luna', 'Luna'],
    ['nginx', 'Who calls'],
    ['Docker', 'Running in production'],
    ['health check', 'Running in production'],
    ['payShield', 'Coming from'],
  ] as const) {
    await page.goto(site.origin, { waitUntil: 'load' })
    await page.click('#tsd-search-trigger')
    await page.fill('#tsd-search-input', typed)
    const first = page.locator('#tsd-search-results li a').first()
    await first.waitFor()
    await Promise.all([page.waitForURL(/\.html/), first.click()])
    const heading = (await page.locator('h1').first().textContent()) ?? ''
    const isThere = heading.includes(title) || page.url().includes(title)
    if (!isThere) problems.push(`search: "${typed}" leads to "${heading}" (${page.url()})`)
  }
}

/** The menu has the guides in the order in which they are read, by their numbers. */
async function checkMenu(browser: Browser): Promise<void> {
  const page = await watchedPage(browser)
  await page.goto(site.origin, { waitUntil: 'load' })
  await page.waitForSelector('#tsd-nav-container a', { state: 'attached' })
  const entries = await page.locator('#tsd-nav-container a').allTextContents()
  const numbers = entries.flatMap(text => /^\s*(\d+)\. /.exec(text)?.[1] ?? []).map(Number)
  if (numbers.length < 13 || numbers.some((number, i) => number !== i + 1))
    problems.push(`menu: the guides are numbered ${numbers.join(', ')}`)
}

/** The inspector in both widths: its answers are the library's own, its policy lets no request out, and it needs no server. */
async function checkInspector(browser: Browser): Promise<void> {
  const page = await watchedPage(browser)
  const ask = async (kind: string, value: string, pan = ''): Promise<string> => {
    await page.selectOption('#kind', kind)
    await page.fill('#value', value)
    if (kind === 'pin-block') {
      await page.selectOption('#state', pan === '' ? 'enciphered' : 'clear')
      await page.fill('#pan', pan)
    }
    await page.click('#inspect')
    return (await page.textContent('#result')) ?? ''
  }
  const pan = '9999990123456789'
  const jwe = `${Buffer.from('{"alg":"ECDH-ES","enc":"A256GCM","kid":"A-KID"}').toString('base64url')}..AA.AA.AA`
  const dataSet = '00'.repeat(123)
  const profile = ILLUSTRATIVE_NOT_GIROCARD_TDEA
  const block = '041126FEDCBA9876'
  const bytes = fromHex(block, 'block')
  for (const size of [WIDE, NARROW]) {
    await page.setViewportSize(size)
    await page.goto(pathToFileURL(join(folder, 'inspector.html')).href, { waitUntil: 'load' })
    for (const [kind, value, wanted, of] of [
      ['jwe', jwe, inspectJweHeader(jwe)],
      ['jwe', 'nothing', inspectJweHeader('nothing')],
      ['data-set', dataSet, inspectDataSet({ profile, prwDataSet: dataSet })],
      ['pin-block', block, inspectPinBlock({ block: bytes, state: 'enciphered' })],
      ['pin-block', block, inspectPinBlock({ block: bytes, state: 'clear', pan: Pan.from(pan) }), pan],
      ['pin-block', '0411', 'ERR_LENGTH: block: 2 bytes, expected 8 or 16'],
      ['pin-block', 'no hex', 'the value is not hex: an even number of digits 0-9 and A-F'],
    ] as const) {
      const shown = await ask(kind, value, of)
      if (shown !== wanted) problems.push(`inspector: ${kind} ${value.slice(0, 20)}: "${shown.slice(0, 80)}"`)
    }
    for (const what of await page.evaluate<string[]>('siteCheck.overflowing()'))
      problems.push(`inspector: at ${size.width} px: ${what}`)
    if (pictures !== undefined) await page.screenshot({ path: join(pictures, `inspector-${size.width}.png`) })
  }
  if (!(await page.content()).includes(`content="default-src 'none'; script-src 'sha256-`))
    problems.push('inspector: its policy lets a request out')
}
