import { Ajv, type ValidateFunction } from 'ajv'
import { describe, expect, test } from 'vitest'
import { accepted, fileNames, readFile, readText, rejected, type Vector } from './load.js'

const schema = JSON.parse(readText('schema.json'))
const validate: ValidateFunction = new Ajv({ strict: true }).compile(schema)
const files = fileNames.map(name => ({ name, content: readFile(name) }))
const everyVector = files.flatMap(({ name, content }) => content.vectors.map(vector => ({ name, vector })))

/** One vector of each operation and expectation, in a file of its own. */
const samples = [
  ...new Map(everyVector.map(x => [`${x.vector.operation} ${x.vector.expect}`, x])).entries(),
].map(([what, { name, vector }]) => ({ what, file: { ...readFile(name), vectors: [vector] } }))

describe('the schema refuses', () => {
  test('a lower-case digit in any hex field', () => {
    let tried = 0
    for (const { what, file } of samples) {
      const reject = file.vectors.some(v => v.expect === 'reject')
      for (const member of reject ? ['inputs'] : ['inputs', 'outputs']) {
        const fields = Reflect.get(file.vectors[0] ?? {}, member) as Record<string, unknown>
        for (const [field, value] of Object.entries(fields)) {
          if (typeof value !== 'string' || !/^([0-9A-F]{2})+$/.test(value) || !/[A-F]/.test(value)) continue
          if (['pin', 'pan', 'protectedHeader'].includes(field)) continue
          tried++
          const changed = structuredClone(file)
          const target = Reflect.get(changed.vectors[0] ?? {}, member) as Record<string, unknown>
          target[field] = value.toLowerCase()
          expect(validate(changed), `${what} ${member}.${field}`).toBe(false)
        }
      }
    }
    expect(tried).toBeGreaterThan(40)
  })

  test('a missing required member, an unknown member', () => {
    for (const { what, file } of samples) {
      for (const member of ['id', 'operation', 'inputs', 'expect', 'source', 'obtained']) {
        const changed = structuredClone(file)
        Reflect.deleteProperty(changed.vectors[0] ?? {}, member)
        expect(validate(changed), `${what} without ${member}`).toBe(false)
      }
      const more = structuredClone(file)
      Object.assign(more.vectors[0] ?? {}, { comment: 'x' })
      expect(validate(more), `${what} with a member more`).toBe(false)
      for (const member of ['topic', 'conventions', 'sources', 'vectors', '$schema']) {
        const changed = structuredClone(file)
        Reflect.deleteProperty(changed, member)
        expect(validate(changed), `file without ${member}`).toBe(false)
      }
    }
  })

  test('a missing or unknown input or output, and the members of another expectation', () => {
    for (const { what, file } of samples) {
      const first = file.vectors[0]
      if (first === undefined) throw new Error('no sample')
      const change = (patch: object) => validate({ ...file, vectors: [{ ...first, ...patch }] })
      expect(change({}), `${what} unchanged`).toBe(true)
      expect(change({ inputs: {} }), `${what} without inputs`).toBe(false)
      expect(change({ inputs: { ...first.inputs, extra: '00' } }), `${what} with an input more`).toBe(false)
      expect(change({ reason: first.expect === 'accept' ? 'tag' : undefined }), `${what} reason`).toBe(false)
      if (first.expect === 'reject') {
        expect(change({ outputs: {} }), `${what} with outputs`).toBe(false)
        expect(change({ reason: 'because' }), `${what} with an unknown reason`).toBe(false)
        continue
      }
      expect(change({ outputs: {} }), `${what} without outputs`).toBe(false)
      expect(change({ outputs: { ...first.outputs, extra: '00' } }), `${what} with an output more`).toBe(
        false,
      )
    }
  })

  test.each<[string, (v: Vector) => object]>([
    ['an unknown operation', () => ({ operation: 'pin-block.translate' })],
    ['an empty source', () => ({ source: '' })],
    ['an unknown way of obtaining', () => ({ obtained: 'guessed' })],
    ['an unknown flag', () => ({ flags: ['fine'] })],
    ['format 0 without PAN', v => ({ inputs: { ...v.inputs, pan: undefined } })],
    ['format 0 with fill', v => ({ inputs: { ...v.inputs, fill: 'FF' } })],
    ['format 2 with PAN', v => ({ inputs: { ...v.inputs, format: 2 } })],
    ['a three-digit PIN that is accepted', v => ({ inputs: { ...v.inputs, pin: '123' } })],
    ['a block of seven bytes', () => ({ outputs: { block: '041215FEDCBA98' } })],
    ['block and blockPrefix', () => ({ outputs: { block: '041215FEDCBA9876', blockPrefix: '0412' } })],
  ])('%s', (_, patch) => {
    const [vector] = accepted('pin-block-format0.json', 'pin-block.encode')
    if (vector === undefined) throw new Error('no sample')
    const file = readFile('pin-block-format0.json')
    expect(validate(JSON.parse(JSON.stringify({ ...file, vectors: [vector] })))).toBe(true)
    const changed = { ...file, vectors: [{ ...vector, ...patch(vector) }] }
    expect(validate(JSON.parse(JSON.stringify(changed)))).toBe(false)
  })

  test('CBC without an initialization vector, and an accepted JWE without inProfile', () => {
    const tdea = readFile('tdea.json')
    const [cbc] = accepted('tdea.json', 'tdea.encipher').filter(v => v.inputs.mode === 'CBC')
    if (cbc === undefined) throw new Error('no sample')
    const { iv: _iv, ...inputs } = cbc.inputs
    expect(validate({ ...tdea, vectors: [{ ...cbc, inputs }] })).toBe(false)

    const jwe = readFile('jwe-ecdh-es.json')
    const [open] = accepted('jwe-ecdh-es.json', 'jwe.open')
    if (open === undefined) throw new Error('no sample')
    const { inProfile: _inProfile, ...rest } = open
    expect(validate({ ...jwe, vectors: [rest] })).toBe(false)
  })

  test('a source of our own that does not say how it was computed', () => {
    const file = readFile('seccos-reference.json')
    const project = { kind: 'project', title: 'issuer-pin-crypto' }
    expect(validate({ ...file, sources: { project } })).toBe(false)
    expect(validate({ ...file, sources: { project: { ...project, how: 'twice' } } })).toBe(true)
  })
})

describe.each(files)('$name', ({ name, content }) => {
  test('validates against the schema', () => {
    expect(validate(content), JSON.stringify(validate.errors)).toBe(true)
  })

  test('names its sources, all of them and no other', () => {
    const used = new Set(content.vectors.map(v => v.source))
    expect(used).toEqual(new Set(Object.keys(content.sources)))
  })

  test('takes published results from others, and computed ones from where it says how', () => {
    for (const { id, source, obtained } of content.vectors) {
      const { kind } = content.sources[source] ?? {}
      expect(kind === 'project' && obtained === 'published', id).toBe(false)
    }
  })

  test('holds one vector per line', () => {
    const lines = readText(name)
      .split('\n')
      .filter(line => line.startsWith('    {"id":'))
    expect(lines.map(line => JSON.parse(line.replace(/,$/, '')))).toEqual(content.vectors)
  })

  test('asks no question twice', () => {
    const questions = content.vectors.map(v => JSON.stringify([v.operation, v.inputs]))
    expect(questions.filter((q, i) => questions.indexOf(q) !== i)).toEqual([])
  })
})

test('ids are unique over all files, and each file has its own prefix', () => {
  const ids = everyVector.map(x => x.vector.id)
  expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([])
  const prefixes = new Set(everyVector.map(x => `${x.name} ${x.vector.id.replace(/-\d+$/, '')}`))
  expect(prefixes.size).toBe(files.length)
})

describe('README.md', () => {
  const readme = readText('README.md')
  const rows = tableRows(readme).flatMap(([link = '', ...cells]) => {
    const name = /^\[(.+\.json)\]\(\1\)$/.exec(link)?.[1]
    return name === undefined ? [] : [{ name, cells }]
  })

  test('counts the vectors and the refusals of every file', () => {
    expect(rows.map(({ name, cells }) => [name, Number(cells[0]), Number(cells[1])]).sort()).toEqual(
      files
        .map(({ name, content: { vectors } }) => [
          name,
          vectors.length,
          vectors.filter(v => v.expect === 'reject').length,
        ])
        .sort(),
    )
    expect(readme).toContain(`${everyVector.length} vectors in ${files.length} files`)
  })

  test('counts the vectors by origin', () => {
    for (const { name, cells } of rows) {
      const { vectors, sources } = readFile(name)
      const counts = Object.keys(sources).map(source => vectors.filter(v => v.source === source).length)
      const claimed = (cells[3] ?? '').split(', ').map(origin => Number(origin.split(' ').at(-1)))
      expect(claimed, name).toEqual(counts)
    }
  })

  test('explains every operation and every flag', () => {
    const { operation, flags } = schema.definitions.vector.properties
    const explained = new Set(tableRows(readme).map(([word]) => word))
    for (const word of [...operation.enum, ...flags.items.enum]) expect(explained).toContain(`\`${word}\``)
  })
})

describe('format 0', () => {
  const { sources } = readFile('pin-block-format0.json')
  const encode = accepted('pin-block-format0.json', 'pin-block.encode')
  const decode = accepted('pin-block-format0.json', 'pin-block.decode')
  const refused = rejected('pin-block-format0.json', 'pin-block.decode')
  const encipher = accepted('pin-block-format0.json', 'pin-block.encipher')

  test('rests on at least three sources that do not depend on each other', () => {
    const published = [...encode, ...decode, ...encipher].filter(v => v.obtained === 'published')
    const origins = new Set(published.map(v => sources[v.source]).filter(s => s?.kind !== 'project'))
    const titles = new Set([...origins].map(s => s?.title))
    const places = new Set([...origins].map(s => s?.via ?? s?.title))
    expect(Math.min(titles.size, places.size)).toBeGreaterThanOrEqual(3)
    expect(new Set([...origins].map(s => s?.kind))).toEqual(new Set(['standard', 'vendor', 'implementation']))
  })

  test('covers every PIN length with every PAN length', () => {
    const seen = new Set(encode.map(v => `${v.inputs.pin.length} ${v.inputs.pan?.length}`))
    for (let pin = 4; pin <= 12; pin++) {
      for (let pan = 12; pan <= 19; pan++) expect(seen).toContain(`${pin} ${pan}`)
      expect(encipher.some(v => v.inputs.pin.length === pin && v.inputs.key.length === 48)).toBe(true)
    }
  })

  test('breaks every rule', () => {
    const clear = refused
      .filter(v => v.inputs.block.length === 16)
      .map(v => ({ reason: v.reason, field: pinField(v.inputs.block, v.inputs.pan ?? '') }))
    const broken = (reason: string) => clear.filter(v => v.reason === reason).map(v => v.field)
    expect(new Set(broken('control').map(f => f[0]))).toEqual(new Set([...'123456789ABCDEF']))
    expect(new Set(broken('length').map(f => f[1]))).toEqual(new Set([...'0123DEF']))
    for (let n = 4; n <= 12; n++) {
      const fillers = broken('filler').filter(f => f[1] === n.toString(16).toUpperCase())
      const wrong = fillers.map(f => [...f].findIndex((nibble, i) => i >= 2 + n && nibble !== 'F'))
      expect(new Set(wrong), `PIN length ${n}`).toEqual(
        new Set(Array.from({ length: 14 - n }, (_, i) => 2 + n + i)),
      )
    }
    const digits = broken('pin-digit').filter(f => f[1] === '4')
    for (const place of [2, 5]) {
      expect(new Set(digits.map(f => f[place] ?? '').filter(d => d > '9'))).toEqual(new Set([...'ABCDEF']))
    }
    expect(broken('pan').length).toBeGreaterThan(10)
    const sizes = new Set(refused.filter(v => v.reason === 'block-size').map(v => v.inputs.block.length / 2))
    expect([...sizes]).toEqual(expect.arrayContaining([0, 7, 9, 16]))
  })
})

test('the JWE file begins with the published D1 sample and has all three kinds of message', () => {
  const open = accepted('jwe-ecdh-es.json', 'jwe.open')
  expect(open[0]).toMatchObject({ id: 'jwe-001', source: 'd1', inProfile: true })
  expect(Buffer.from(open[0]?.outputs.plaintext ?? '', 'hex').toString()).toBe(
    '{"pan":"1234567891234567","exp":"1223"}',
  )
  expect(open.filter(v => v.inProfile).length).toBeGreaterThan(10)
  expect(open.filter(v => !v.inProfile).length).toBeGreaterThan(10)
  expect(rejected('jwe-ecdh-es.json', 'jwe.open').length).toBeGreaterThan(70)
})

test('a PAN of fewer than 12 digits is flagged wherever it is accepted', () => {
  for (const { vector } of everyVector) {
    const pan: unknown = Reflect.get(vector.inputs, 'pan')
    if (vector.expect === 'reject' || typeof pan !== 'string') continue
    expect(vector.flags?.includes('short-pan') ?? false, vector.id).toBe(pan.length < 12)
  }
})

/** The PIN field of a clear block: the block without its PAN digits. */
function pinField(block: string, pan: string): string {
  const account = BigInt(`0x${pan.slice(0, -1).slice(-12)}`)
  return (BigInt(`0x${block}`) ^ account).toString(16).toUpperCase().padStart(16, '0')
}

/** The cells of every table row in a Markdown text, whatever white space a formatter put around them. */
function tableRows(markdown: string): string[][] {
  return markdown
    .split('\n')
    .filter(line => line.startsWith('|'))
    .map(line =>
      line
        .split('|')
        .slice(1, -1)
        .map(cell => cell.trim()),
    )
}
