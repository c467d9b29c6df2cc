/**
 * Writes all drawings to docs/pictures, and anew the charts of what `npm run bench` has measured: `npm run pictures`. A test fails
 * where one is not what its script makes.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { speedCharts } from '../../bench/charts.js'
import { PICTURES } from './pictures.js'

const FOLDER = new URL('../../docs/pictures/', import.meta.url)
mkdirSync(FOLDER, { recursive: true })
for (const [name, make] of Object.entries(PICTURES)) writeFileSync(new URL(`${name}.svg`, FOLDER), make())

const SPEED = new URL('../../docs/measurements/speed/', import.meta.url)
const measured = JSON.parse(readFileSync(new URL('speed.json', SPEED), 'utf8'))
for (const [name, chart] of Object.entries(speedCharts(measured))) writeFileSync(new URL(name, SPEED), chart)
