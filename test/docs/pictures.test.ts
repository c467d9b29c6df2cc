/** The drawings of the docs: each file is what its script makes of the code's own tables, and each can be read aloud. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PICTURES } from '../../tools/pictures/pictures.js'
import { someOf } from '../support/some-of.js'

const FOLDER = new URL('../../docs/pictures/', import.meta.url)

describe('the drawings', () => {
  test.each(Object.keys(PICTURES))('%s.svg is what `npm run pictures` makes', name => {
    const file = new URL(`${name}.svg`, FOLDER)
    expect(existsSync(file), `${name}.svg: run npm run pictures`).toBe(true)
    expect(readFileSync(file, 'utf8')).toBe(PICTURES[name]?.())
  })

  test('nothing is in the folder that no script makes', () => {
    expect(readdirSync(FOLDER).sort()).toEqual(
      Object.keys(PICTURES)
        .map(name => `${name}.svg`)
        .sort(),
    )
  })

  test('each is shown on a page', () => {
    const docs = new URL('../../docs/', import.meta.url)
    const pages = readdirSync(docs, { recursive: true, encoding: 'utf8' }).filter(path =>
      path.endsWith('.md'),
    )
    const text = pages.map(path => readFileSync(new URL(path, docs), 'utf8')).join()
    expect(Object.keys(PICTURES).filter(name => !text.includes(`pictures/${name}.svg)`))).toEqual([])
  })

  test.each(Object.entries(PICTURES))(
    '%s has a title, a description and both colour schemes',
    (_name, make) => {
      const svg = make()
      expect(svg).toMatch(/<title id="t">[^<]+<\/title>\n<desc id="d">[^<]{40,}<\/desc>/)
      expect(svg).toContain('prefers-color-scheme:dark')
    },
  )

  test.each(Object.entries(PICTURES))('%s: no box and no text begins outside', (_name, make) => {
    const svg = make()
    const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg) ?? []
    for (const [, x, y] of someOf(svg.matchAll(/ x="([\d.-]+)" y="([\d.-]+)"/g))) {
      expect(Number(x)).toBeGreaterThanOrEqual(0)
      expect(Number(x)).toBeLessThan(Number(width))
      expect(Number(y)).toBeLessThanOrEqual(Number(height))
    }
  })
})
