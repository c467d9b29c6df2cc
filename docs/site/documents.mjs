/**
 * A TypeDoc plugin: the Markdown files keep their form for readers of the repository (a heading first, no front
 * matter), and the site takes title and group from the heading and the folder, the address from the file, a guide's number
 * from the line below its title, and what else the search shall find it by from its `<!-- found by: … -->`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Converter, DefaultTheme, IndexEvent, KindRouter, PageEvent, RendererEvent } from 'typedoc'
import { writeInspector } from './inspector.mjs'

/** The group of a document, by the folder it stands in; what stands elsewhere belongs to the project as a whole. */
const GROUPS = {
  guides: 'Guides',
  errors: 'Error codes',
  vendors: 'Vendors',
  decisions: 'Decisions',
  measurements: 'Measurements',
}
/** Folders whose README is the page of the folder; the project's own is "readme", wherever it is checked out. */
const FOLDERS_WITH_INDEX = ['docs', 'decisions', 'vectors']

/** @param {import('typedoc').Application} app */
export function load(app) {
  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, document) => {
    const title = headingOf(document.content)
    if (title === undefined) {
      app.logger.error(`the document ${document.name} does not begin with "# title"`)
      return
    }
    const folder = /\/docs\/(\w+)\//.exec(pathOf(document))?.[1] ?? ''
    document.name = title
    document.frontmatter['group'] = GROUPS[folder] ?? 'Project'
    const text = textOf(document.content)
    const place = /^\*\*Guide (\d+) of \d+\.\*\*/m.exec(text)?.[1]
    if (place !== undefined) document.frontmatter['place'] = Number(place)
    document.frontmatter['headings'] = Array.from(
      text.matchAll(/^##+ (.+)$/gm),
      ([, heading]) => heading,
    ).join(' ')
    document.frontmatter['foundBy'] = /^<!-- found by: ([^>]+?) -->$/m.exec(text)?.[1] ?? ''
  })
  app.renderer.defineRouter('files', FileRouter)
  app.renderer.defineTheme('numbered', NumberedTheme)
  app.renderer.on(IndexEvent.PREPARE_INDEX, event => {
    // A phrase is looked for word by word, "a" included: what a page is about weighs more than what it mentions.
    event.searchFieldWeights['headings'] = 4
    event.searchFieldWeights['foundBy'] = 400
    event.searchResults.forEach((result, i) => {
      if (!result.isDocument()) return
      const { headings, foundBy } = result.frontmatter
      event.searchFields[i] = { headings, foundBy }
    })
  })
  app.renderer.on(PageEvent.END, page => {
    if (page.url === 'index.html')
      page.contents = page.contents?.replace('{INSPECTOR}', '<a href="inspector.html">The inspector</a>')
  })
  app.renderer.on(RendererEvent.END, ({ outputDirectory, project, pages }) => {
    writeFileSync(join(outputDirectory, 'llms.txt'), plainIndex(project, pages))
    writeInspector(outputDirectory)
    leaveOutFillers(join(outputDirectory, 'assets/main.js'))
  })
}

/** Words that say nothing of what is looked for; the search would find an "a" in every word that has one. */
const FILLERS =
  'a an and are can do does for how i in is it my of on or our the their this to we what when where which why with'
/** Where TypeDoc's script takes the typed text apart. */
const WORDS = 'i.split(" ").map('

/** Where lunr, in that script, names a node by its edges. */
const NODE_NAME = 'e=e+s+o.id}return e}'
/**
 * With a comma after each: an edge "5" to node 2 and an edge "t" to 52 must not be one, or words come out of the index that are
 * not in it, and each search ends in a TypeError. It depends on the numbers, and so on every word of the pages.
 */
const CLEAR_NAME = 'e=e+s+o.id+","}return e}'

/** Has the search leave fillers out, where other words are left. */
function leaveOutFillers(path) {
  const script = readFileSync(path, 'utf8')
  if (script.split(WORDS).length !== 2)
    throw new Error('the search of this TypeDoc takes words apart in another way')
  if (script.split(NODE_NAME).length !== 2)
    throw new Error('the lunr of this TypeDoc names its nodes in another way')
  const kept = `(w=>{let k=w.filter(c=>!"${FILLERS}".split(" ").includes(c.toLowerCase()));return k.length?k:w})(i.split(" "))`
  writeFileSync(path, script.replace(WORDS, () => `${kept}.map(`).replace(NODE_NAME, CLEAR_NAME))
}

/** The site's documents as one page of plain text, by group, for readers that are programs (llmstxt.org). */
function plainIndex(project, pages) {
  const groups = new Map()
  const documents = pages.filter(({ model }) => typeof model.isDocument === 'function' && model.isDocument())
  for (const { model, url } of documents.sort((a, b) => placeOf(a.model) - placeOf(b.model))) {
    const group = model.frontmatter['group']
    groups.set(group, [...(groups.get(group) ?? []), `- [${model.name}](${url})`])
  }
  const parts = [...groups].map(([group, lines]) => `## ${group}\n\n${lines.join('\n')}`)
  return [`# ${project.name}`, ...parts].join('\n\n').concat('\n')
}

/** The number of a guide; other documents come after them in the order in which they are. */
const placeOf = document => document.frontmatter['place'] ?? Number.MAX_SAFE_INTEGER

/** The menu has the guides in the order in which they are read, with their numbers. */
class NumberedTheme extends DefaultTheme {
  buildNavigation(project) {
    const places = new Map(project.documents?.map(guide => [guide.name, guide.frontmatter['place']]))
    const menu = super.buildNavigation(project)
    for (const group of menu.filter(({ text }) => text === GROUPS.guides)) {
      group.children?.sort((a, b) => places.get(a.text) - places.get(b.text))
      for (const entry of group.children ?? []) entry.text = `${places.get(entry.text)}. ${entry.text}`
    }
    return menu
  }
}

/** `documents/key-ceremony.html` rather than an address made of the title, which changes. */
class FileRouter extends KindRouter {
  getIdealBaseName(reflection) {
    if (!reflection.isDocument()) return super.getIdealBaseName(reflection)
    const [, folder = '', name = ''] = /(?:([^/]+)\/)?([^/]+)\.md$/.exec(pathOf(reflection)) ?? []
    const isNamedByFolder = name === 'README' && FOLDERS_WITH_INDEX.includes(folder)
    return `documents/${(isNamedByFolder ? folder : name).toLowerCase()}`
  }
}

function pathOf(document) {
  return document.project.files.getReflectionPath(document) ?? ''
}

/**
 * The first line. TypeDoc has cut the text at each piece of code already.
 *
 * @param {readonly import('typedoc').CommentDisplayPart[]} parts
 */
function headingOf(parts) {
  return /^# (.+)\n/.exec(textOf(parts))?.[1]?.replaceAll('`', '')
}

/** @param {readonly import('typedoc').CommentDisplayPart[]} parts */
function textOf(parts) {
  return parts.map(part => part.text).join('')
}
