/**
 * The charts of the measurements, as SVG by Apache ECharts on the server side: no browser, no DOM. ECharts writes one set of colours into
 * its shapes; a style sheet has others in their place where the reader's page is dark.
 */
import * as echarts from 'echarts'
import { escapeXml } from '../tools/pictures/kit.js'
import type { ContestResult } from './contest.js'
import type { Growth } from './growth.js'

// Colours that are told apart by the colour-blind, too (Okabe and Ito), on white and on black.
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00']
const FONT = { fontFamily: 'system-ui, sans-serif' }

/** What ECharts paints on white, and what takes its place on black: ground, text, what is said besides, lines. */
const DARK = [
  [['#fff', 'rgb(255,255,255)'], '#0d1117'],
  [['#333', '#3c3c41', '#54555a'], '#e6edf3'],
  [['#86878c'], '#9aa4af'],
  [['#dbdee4', '#b7b9be'], '#3d444d'],
] as const
const STYLE = DARK.flatMap(([light, dark]) =>
  light.flatMap(colour => ['fill', 'stroke'].map(name => `[${name}="${colour}"]{${name}:${dark}}`)),
).join('')

interface Size {
  readonly width: number
  readonly height: number
}

function render(title: string, description: string, size: Size, option: echarts.EChartsCoreOption): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, ...size })
  chart.setOption({ animation: false, color: COLOURS, backgroundColor: '#fff', textStyle: FONT, ...option })
  const svg = chart.renderToSVGString()
  chart.dispose()
  const spoken = `<title id="t">${escapeXml(title)}</title>\n<desc id="d">${escapeXml(description)}</desc>`
  const style = `<style>@media (prefers-color-scheme:dark){${STYLE}}</style>`
  return (
    svg
      // What moves under the pointer, which a picture on a page has none of, and numbers that hang on what was made before.
      .replaceAll(/ class="zr\d+-cls-\d+"|<style >[\s\S]*?<\/style>\n/g, '')
      .replaceAll(/\bzr\d+-/g, 'zr-')
      .replace('<svg', '<svg role="img" aria-labelledby="t d"')
      .replace('>', () => `>\n${spoken}\n${style}`)
  )
}

/** All of them, by file name, of what `docs/measurements/speed/speed.json` holds. */
export function speedCharts(report: {
  readonly contests: readonly ContestResult[]
  readonly growth: readonly Growth[]
}): Readonly<Record<string, string>> {
  return Object.fromEntries([
    ...report.contests.map((contest, i) => [`contest-${i + 1}.svg`, contestChart(contest)]),
    ...report.growth.map((growth, i) => [`growth-${i + 1}.svg`, growthChart(growth)]),
  ])
}

/** Operations a second of each way, the fastest at the top, with the spread of the rounds in the label. */
function contestChart({ title, ways }: ContestResult): string {
  const bars = [...ways].sort((a, b) => b.cpu.median - a.cpu.median)
  const subtext = 'operations a second of processor time'
  const said = bars.map(({ name, cpu }) => `${name} ${short(1e9 / cpu.median)}`).reverse()
  return render(
    title,
    `${subtext}: ${said.join('; ')}`,
    { width: 760, height: 90 + 44 * bars.length },
    {
      title: { text: title, subtext, left: 12, top: 8 },
      grid: { left: 240, right: 90, top: 70, bottom: 20 },
      xAxis: { type: 'value', splitNumber: 4, axisLabel: { formatter: short } },
      yAxis: {
        type: 'category',
        data: bars.map(({ name }) => name),
        axisLabel: { width: 220, overflow: 'break' },
      },
      series: [
        {
          type: 'bar',
          barMaxWidth: 24,
          data: bars.map(({ cpu }, i) => ({
            value: 1e9 / cpu.median,
            itemStyle: { color: ways[0]?.name === bars[i]?.name ? COLOURS[0] : '#9aa4af' },
          })),
          label: { show: true, position: 'right', formatter: ({ value }: { value: number }) => short(value) },
        },
      ],
    },
  )
}

/** Cost by size, both axes logarithmic. */
function growthChart({ title, of, unit, lines }: Growth): string {
  const subtext = `nanoseconds of processor time, each ${unit}`
  const said = lines.map(
    ({ name, points }) => `${name} ${points.map(([size, cost]) => `${size}: ${short(cost)}`).join(', ')}`,
  )
  return render(
    title,
    `${subtext}, by ${of}: ${said.join('; ')}`,
    { width: 760, height: 380 },
    {
      title: { text: title, subtext, left: 12, top: 8 },
      // The room that a text takes is a guess, without a DOM.
      legend: { bottom: 4, itemGap: 32 },
      grid: { left: 70, right: 30, top: 70, bottom: 70 },
      xAxis: { type: 'log', name: of, nameLocation: 'middle', nameGap: 28, min: 'dataMin', max: 'dataMax' },
      yAxis: { type: 'log', axisLabel: { formatter: short } },
      series: lines.map(({ name, points }) => ({ name, type: 'line', data: points, symbolSize: 6 })),
    },
  )
}

function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`
  if (value >= 1e3) return `${(value / 1e3).toPrecision(3)} k`
  return value.toPrecision(3)
}
