/** Writes all drawings to docs/pictures: `npm run pictures`. A test fails where one is not what its script makes. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { PICTURES } from './pictures.js'

const FOLDER = new URL('../../docs/pictures/', import.meta.url)
mkdirSync(FOLDER, { recursive: true })
for (const [name, make] of Object.entries(PICTURES)) writeFileSync(new URL(`${name}.svg`, FOLDER), make())
