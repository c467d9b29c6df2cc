/** The charts of the bench: each is what its script makes of the measured JSON, for a light page and a dark one, and can be read aloud. */
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { speedCharts } from '../../bench/charts.js'
import type { Report } from '../../bench/report.js'

const FOLDER = new URL('../../docs/measurements/speed/', import.meta.url)
const read = (name: string): string => readFileSync(new URL(name, FOLDER), 'utf8')
const REPORT: Report = JSON.parse(read('speed.json'))
const CHARTS = speedCharts(REPORT)

test.each(Object.keys(CHARTS))('%s is what `npm run pictures` makes of speed.json', name => {
  expect(read(name)).toBe(CHARTS[name])
})

test('there is one of each contest and of each growth, and the page shows them all', () => {
  const names = Object.keys(CHARTS)
  expect(names).toHaveLength(REPORT.contests.length + REPORT.growth.length)
  expect(readdirSync(FOLDER).sort()).toEqual([...names, 'speed.json'].sort())
  const page = readFileSync(new URL('../speed.md', FOLDER), 'utf8')
  expect(names.filter(name => !page.includes(`](speed/${name})`))).toEqual([])
})

/** What a curve or a bar is painted in, which is seen on either ground. */
const OF_THE_DATA = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#9aa4af']

test.each(Object.entries(CHARTS))(
  '%s has a title, a description, and a dark colour for each light one',
  (_name, chart) => {
    expect(chart).toMatch(/<title id="t">[^<]+<\/title>\n<desc id="d">[^<]{40,}<\/desc>/)
    const [, style = ''] = /prefers-color-scheme:dark\)\{(.*?)\}<\/style>/.exec(chart) ?? []
    const shapes = chart.replaceAll(
      /<(\w+)[^>]* fill-opacity="0"[^>]*>|<defs[\s\S]*?<\/defs>|<path d="M0 7L25 7"[^>]*>/g,
      '',
    )
    const painted = [...shapes.matchAll(/ (fill|stroke)="(#\w+|rgb\([\d,]+\))"/g)]
      .filter(([, , colour = '']) => !OF_THE_DATA.includes(colour))
      .map(([, name, colour]) => `[${name}="${colour}"]`)
    expect(painted.length).toBeGreaterThan(0)
    expect([...new Set(painted)].filter(selector => !style.includes(selector))).toEqual([])
  },
)
