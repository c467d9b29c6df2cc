/** The charts of the measurements, as SVG by Apache ECharts on the server side: no browser, no DOM. */
import * as echarts from 'echarts'
import type { ContestResult } from './contest.js'
import type { Growth } from './growth.js'

// Colours that are told apart by the colour-blind, too (Okabe and Ito), on white.
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00']
const FONT = { fontFamily: 'system-ui, sans-serif' }

function render(width: number, height: number, option: echarts.EChartsCoreOption): string {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height })
  chart.setOption({ animation: false, color: COLOURS, backgroundColor: '#fff', textStyle: FONT, ...option })
  const svg = chart.renderToSVGString()
  chart.dispose()
  return svg
}

/** Operations a second of each way, the fastest at the top, with the spread of the rounds in the label. */
export function contestChart({ title, ways }: ContestResult): string {
  const bars = [...ways].sort((a, b) => b.cpu.median - a.cpu.median)
  return render(760, 90 + 44 * bars.length, {
    title: { text: title, subtext: 'operations a second of processor time', left: 12, top: 8 },
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
  })
}

/** Cost by size, both axes logarithmic. */
export function growthChart({ title, of, unit, lines }: Growth): string {
  return render(760, 380, {
    title: { text: title, subtext: `nanoseconds of processor time, each ${unit}`, left: 12, top: 8 },
    legend: { bottom: 4 },
    grid: { left: 70, right: 30, top: 70, bottom: 70 },
    xAxis: { type: 'log', name: of, nameLocation: 'middle', nameGap: 28, min: 'dataMin', max: 'dataMax' },
    yAxis: { type: 'log', axisLabel: { formatter: short } },
    series: lines.map(({ name, points }) => ({ name, type: 'line', data: points, symbolSize: 6 })),
  })
}

function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`
  if (value >= 1e3) return `${(value / 1e3).toPrecision(3)} k`
  return value.toPrecision(3)
}
