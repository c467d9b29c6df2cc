/**
 * A TypeDoc plugin: the Markdown files keep their form for readers of the repository (a heading first, no front
 * matter), and the site takes title and group from the heading and the folder, and the address from the file.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Converter, KindRouter, PageEvent, RendererEvent } from 'typedoc'
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
  })
  app.renderer.defineRouter('files', FileRouter)
  app.renderer.on(PageEvent.END, page => {
    if (page.url === 'index.html')
      page.contents = page.contents?.replace('{INSPECTOR}', '<a href="inspector.html">The inspector</a>')
  })
  app.renderer.on(RendererEvent.END, ({ outputDirectory, project, pages }) => {
    writeFileSync(join(outputDirectory, 'llms.txt'), plainIndex(project, pages))
    writeInspector(outputDirectory)
  })
}

/** The site's documents as one page of plain text, by group, for readers that are programs (llmstxt.org). */
function plainIndex(project, pages) {
  const groups = new Map()
  for (const { model, url } of pages) {
    if (typeof model.isDocument !== 'function' || !model.isDocument()) continue
    const group = model.frontmatter['group']
    groups.set(group, [...(groups.get(group) ?? []), `- [${model.name}](${url})`])
  }
  const parts = [...groups].map(([group, lines]) => `## ${group}\n\n${lines.join('\n')}`)
  return [`# ${project.name}`, ...parts].join('\n\n').concat('\n')
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
  const text = parts.map(part => part.text).join('')
  return /^# (.+)\n/.exec(text)?.[1]?.replaceAll('`', '')
}
