/** Key blocks: what is refused and by which name, the published ones, and ours read back by a second program. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import {
  type Backend,
  type Key,
  type KeyBlockError,
  type KeyMode,
  type KeyUsage,
  keyCheckValue,
  openKeyBlock,
  readKeyBlockHeader,
  type SealKeyBlockInput,
  sealKeyBlock,
  translateKeyBlock,
} from '../../src/index.js'
import { importKeyBlock } from '../../src/key-block/ceremony.js'
import { withCipher } from '../../src/key-block/clear-key.js'
import { type KeyBlockHeader, useOf } from '../../src/key-block/header.js'
import { openAny } from '../../src/key-block/key-block.js'
import { macOf, protectionKeys } from '../../src/key-block/protection.js'
import { softwareBackend } from '../../src/software.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { failure } from '../support/errors.js'
import { field, vectorsOf } from '../support/vectors.js'

const hex = (data: Uint8Array): string => Buffer.from(data).toString('hex').toUpperCase()
const KBPK = {
  'aes-128': 'C1A5D20E7F936B4488D1F03C5E2A9B76',
  'aes-192': '0F1E2D3C4B5A69788796A5B4C3D2E1F00112233445566778',
  'aes-256': '88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6',
  'tdea-2key': 'DD7515F2BFC17F85CE48F3CA25CB21F6',
  'tdea-3key': '0123456789ABCDEFFEDCBA98765432108F0D4C2B1A691E75',
} as const
type Kbpk = keyof typeof KBPK
const PIN_KEY = '3F419E1CB7079442AA37474C2EFBF8B8'
const HMAC_KEY = '7D1E90B4C2A85F36E04B9D7716F3C8A25938E1D06C4FB27A83951C0E6DAF4B28'
const HASH = { id: 'HM', data: '21' }
const VECTORS = vectorsOf('tr31', 'key-block.open', 'accept')

async function kbpk(
  algorithm: Kbpk,
  material: string = KBPK[algorithm],
  mode: KeyMode = 'B',
  hostDecipher = true,
) {
  const backend: Backend = await softwareBackend({
    keys: [{ kid: 'KBPK', usage: 'key-block-protection', mode, algorithm, material }],
  })
  return backend.bind({ kid: 'KBPK', usage: 'key-block-protection', mode, hostDecipher })
}

async function sealed(key: Key, change: Partial<SealKeyBlockInput> = {}) {
  const { block } = await sealKeyBlock({
    key,
    version: key.algorithm.startsWith('aes') ? 'D' : 'B',
    material: PIN_KEY,
    algorithm: 'tdea-2key',
    usage: 'pin-encryption',
    mode: 'E',
    exportability: 'E',
    ...change,
  })
  return block
}

async function entryOf(call: () => unknown): Promise<string> {
  return ((await failure(call, 'ERR_KEY_BLOCK', [PIN_KEY])) as KeyBlockError).entry
}

/** The same block with some characters changed. */
const changed = (block: string, at: number, text: string): string =>
  block.slice(0, at) + text + block.slice(at + text.length)

describe('the header', () => {
  const good = field(VECTORS[4]?.inputs['block'])
  test.each([
    ['', 'length'],
    [good.slice(0, 15), 'length'],
    [good.slice(0, -1), 'length'],
    [`${good}00`, 'length'],
    [` ${good}`, 'version'],
    [changed(good, 0, 'E'), 'version'],
    [changed(good, 1, '01x2'), 'length'],
    [changed(good, 1, '0111').slice(0, -1), 'length'],
    [changed(good, 5, 'p0'), 'usage'],
    [changed(good, 7, 'Q'), 'algorithm'],
    [changed(good, 8, 'Q'), 'mode'],
    [changed(good, 9, '-1'), 'key version'],
    [changed(good, 11, 'X'), 'exportability'],
    [changed(good, 12, 'AA'), 'number of optional blocks'],
    [changed(good, 14, '99'), 'reserved field'],
    [changed(good, 16, 'ZZ'), 'block'],
    [changed(good, 20, '\u00e9'), 'block'],
    [changed(good, 12, '01'), 'optional blocks'],
    ['x'.repeat(10_000), 'length'],
    [good.slice(0, -32), 'length'],
    [`${good}${'0'.repeat(32)}`, 'length'],
    [`D0096P0AE00E0000${'A'.repeat(80)}`, 'length'],
    ['D0016P0AE00E0000', 'length'],
    ['D0032P0AE00E0200KS10AAAAAAAAAAAA', 'optional block 2'],
    ['D0032P0AE00E0200KS0FAAAAAAAAAAAK', 'optional block 2'],
    [changed(good, 5, 'P-'), 'usage'],
    [changed(good, 9, '0-'), 'key version'],
    [changed(good, 12, '-1'), 'number of optional blocks'],
    [changed(good, 14, '30'), 'reserved field'],
    [changed(good, 14, '01'), 'reserved field'],
    ['D0048P0AE00E0000B82679114F470F540165EDFBF7E250FC', 'length'],
  ])('%s is refused: %s', async (block, entry) => {
    expect(await entryOf(() => readKeyBlockHeader(block))).toBe(entry)
  })

  const withOptional = (count: string, optional: string): string => {
    const rest = optional + 'A'.repeat(64)
    return `D${String(16 + rest.length).padStart(4, '0')}P0AE00E${count}00${rest}`
  }
  test.each([
    ['01', 'ks100000000000000', 'length'],
    ['01', '-S10000000000000', 'optional block 1'],
    ['02', 'KS08AAAAKS08AAAA', 'optional block 2'],
    ['02', 'PB080000KS08AAAA', 'optional block 2'],
    ['01', 'KS08AAAA00000000', 'optional blocks'],
    ['01', 'KSFF000000000000', 'optional block 1 (KS)'],
    ['01', 'KS03000000000000', 'optional block 1 (KS)'],
    ['01', 'KSXX000000000000', 'optional block 1 (KS)'],
    ['01', 'KSFX000000000000', 'optional block 1 (KS)'],
    ['01', 'KSXF000000000000', 'optional block 1 (KS)'],
    ['01', 'KS000500010AAAAA', 'optional block 1 (KS)'],
    ['01', 'KS10\u0007AAAAAAAAAAA', 'block'],
    // 30 February; something before a date, and behind it.
    ['02', '03112026:02:30:10PB0F00000000000', 'optional block 03'],
    ['02', '0312x2026:02:01:10PB0E0000000000', 'optional block 03'],
    ['02', '03122026:02:01:10xPB0E0000000000', 'optional block 03'],
    ['01', 'KS00000000000000', 'optional block 1 (KS)'],
    ['01', 'KS0005AAAAA00000', 'optional block 1 (KS)'],
    ['01', 'KS00041234000000', 'optional block 1 (KS)'],
    ['01', '03102026:02:30:0', 'optional block 03'],
    ['01', '0410hello, there', 'optional block 04'],
  ])('%s optional blocks %s are refused: %s', async (count, optional, entry) => {
    expect(await entryOf(() => readKeyBlockHeader(withOptional(count, optional)))).toBe(entry)
  })

  test('is read without a key', () => {
    const block = field(VECTORS[2]?.inputs['block'])
    expect(readKeyBlockHeader(block)).toEqual({
      version: 'C',
      length: 96,
      usage: 'B0',
      algorithm: 'T',
      mode: 'X',
      keyVersion: '12',
      exportability: 'S',
      optionalBlocks: [{ id: 'KS', data: '00604B120F9292800000' }],
    })
    expect(
      readKeyBlockHeader(withOptional('01', 'KS000310DDDDDDDD').replace('000310', '000210')).optionalBlocks,
    ).toEqual([{ id: 'KS', data: 'DDDDDDDD' }])
  })

  test('is a string', async () => {
    for (const block of [undefined, 7, {}, new Uint8Array(16)])
      await failure(() => readKeyBlockHeader(block as never), 'ERR_ARGUMENT')
  })
})

describe('what a header allows', () => {
  const header = (more: Partial<KeyBlockHeader>): KeyBlockHeader => ({
    ...readKeyBlockHeader(field(VECTORS[4]?.inputs['block'])),
    ...more,
  })

  test('a component is no key', async () => {
    expect(await entryOf(() => useOf(header({ keyVersion: 'c1' }), 'pin-encryption', undefined))).toBe(
      'key version',
    )
  })

  test('a version that has a c behind is that of a key', () => {
    expect(useOf(header({ keyVersion: '1c', mode: 'E' }), 'pin-encryption', undefined)).toBe('E')
  })

  test('a mode that no key of this usage has here, a wider one, and N', async () => {
    expect(await entryOf(() => useOf(header({ mode: 'S' }), 'pin-encryption', undefined))).toBe('mode')
    expect(await entryOf(() => useOf(header({ mode: 'E' }), 'pin-encryption', 'B'))).toBe('mode')
    expect(useOf(header({ mode: 'N' }), 'pin-encryption', undefined)).toBe('B')
    expect(useOf(header({ mode: 'B' }), 'pin-encryption', 'D')).toBe('D')
  })
})

describe('a header that is written', () => {
  const optional = (count: number) =>
    Array.from({ length: count }, (_, i) => ({
      id: i.toString(36).toUpperCase().padStart(2, 'A'),
      data: i === 0 ? 'AAAA' : '',
    }))

  test.each<[Partial<SealKeyBlockInput>, string]>([
    [{ keyVersion: '012' }, 'key version'],
    [{ keyVersion: '-01' }, 'key version'],
    [{ exportability: 'EN' as never }, 'exportability'],
    [{ exportability: 'xE' as never }, 'exportability'],
    [{ optionalBlocks: [{ id: 'KSX', data: '' }] }, 'optional block KS'],
    [{ optionalBlocks: [{ id: '-KS', data: '' }] }, 'optional block -K'],
    [{ optionalBlocks: optional(100) }, 'optional blocks'],
    [{ optionalBlocks: [...optional(3), { id: 'A1', data: 'again' }] }, 'optional block A1'],
    [{ optionalBlocks: [{ id: '04', data: '' }], validTo: new Date('2027-01-01') }, 'optional block 04'],
  ])('is not with %j', async (change, entry) => {
    const key = await kbpk('aes-128')
    expect(await entryOf(() => sealed(key, change))).toBe(entry)
  })

  test('has as many optional blocks as two digits count, and none for padding where none is needed', async () => {
    const key = await kbpk('aes-128')
    expect((await sealed(key, { optionalBlocks: optional(99) })).slice(12, 14)).toBe('99')
    const one = await sealed(key, { optionalBlocks: [{ id: 'KS', data: '0123456789AB' }] })
    expect(one.slice(12, 32)).toBe('0100KS100123456789AB')
  })

  test.each([
    [22, 'KS1A'],
    [251, 'KSFF'],
    [252, 'KS00040106'],
  ])('says of %i characters of data %s', async (characters, head) => {
    const key = await kbpk('aes-128')
    const data = '5'.repeat(characters)
    const block = await sealed(key, { optionalBlocks: [{ id: 'KS', data }] })
    expect(block.slice(16, 16 + head.length + characters)).toBe(head + data)
    expect(readKeyBlockHeader(block).optionalBlocks).toEqual([{ id: 'KS', data }])
  })
})

test('a KBPK that is weaker than the key, and a legacy version, are said', async () => {
  const weak = await kbpk('tdea-2key')
  const text = readFileSync(new URL('../../tools/corpus/key-blocks.json', import.meta.url), 'utf8')
  const { valid } = JSON.parse(text) as { valid: { comment: string; block: string; kbpk: string }[] }
  const { block } = valid.find(({ comment }) => comment.startsWith('A: ')) ?? expect.unreachable()
  const { warnings, mode } = await openKeyBlock({ key: weak, block, usage: 'pin-encryption' })
  expect(mode).toBe('D')
  expect(warnings).toEqual([expect.stringContaining('legacy'), expect.stringContaining('weaker')])
})

describe('in memory', () => {
  const block = field(VECTORS[4]?.inputs['block'])
  const given = [
    { kid: 'KBPK', usage: 'key-block-protection', algorithm: 'aes-256', material: KBPK['aes-256'] },
  ] as const
  const whereIs = (secret: Uint8Array, buffers: readonly ArrayBufferLike[]) =>
    buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(secret)))

  test.each(['tdea-3key', 'aes-192', 'aes-256'] as const)(
    'nothing is left of the keys derived from a KBPK that is %s, and of the key inside what is given back',
    async algorithm => {
      const key = await kbpk(algorithm)
      const { encipherment, authentication } = await protectionKeys(key, undefined)
      const sealing = await buffersMadeBy(() => sealed(key))
      const opening = await buffersMadeBy(() =>
        openKeyBlock({ key, block: sealing.value, usage: 'pin-encryption' }),
      )
      for (const { buffers } of [sealing, opening]) {
        expect(buffers.length).toBeGreaterThan(10)
        // Of a key that is made of several CMACs each part is looked for.
        for (const part of [encipherment, authentication].flatMap(one => [
          one.subarray(0, 8),
          one.subarray(-8),
        ]))
          expect(whereIs(part, buffers)).toEqual([])
      }
      const inside = Buffer.from(PIN_KEY, 'hex')
      expect(whereIs(inside, sealing.buffers)).toEqual([])
      expect(whereIs(inside, opening.buffers)).toEqual([opening.value.material.buffer])
    },
  )

  test('where the second of the derived keys is not to be had, nothing is opened, and nothing of the first is left', async () => {
    let uses = 0
    await using backend = await softwareBackend({
      keys: given,
      onOperation: () => {
        // Two CMACs make one key of 256 bits.
        uses++
        if (uses > 2) throw new Error('no more')
      },
    })
    await using other = await softwareBackend({ keys: given })
    const spec = { kid: 'KBPK', usage: 'key-block-protection', hostDecipher: true } as const
    const key = await backend.bind(spec)
    const { encipherment } = await protectionKeys(await other.bind(spec), undefined)
    const call = () => openKeyBlock({ key, block, usage: 'pin-encryption' })
    const { value, buffers } = await buffersMadeBy(() => call().catch((error: unknown) => error))
    expect(value).toBeInstanceOf(Error)
    expect(uses).toBe(3)
    expect(whereIs(encipherment.subarray(0, 8), buffers)).toEqual([])
  })
})

describe('the corpus', () => {
  interface Case {
    readonly tcId: number
    readonly comment: string
    readonly kbpk: string
    readonly block: string
    readonly key?: string
    readonly result: 'valid' | 'invalid' | 'acceptable'
  }
  const text = readFileSync(new URL('../../vectors/corpus/key_block_test.json', import.meta.url), 'utf8')
  const { testGroups } = JSON.parse(text) as { testGroups: { tests: Case[] }[] }
  const ALGORITHMS = {
    16: ['tdea-2key', 'aes-128'],
    24: ['tdea-3key', 'aes-192'],
    32: ['', 'aes-256'],
  } as const

  test.each(testGroups.flatMap(({ tests }) => tests))('$tcId, $comment: $result', async one => {
    const size = one.kbpk.length / 2
    const aes = one.block.startsWith('D') ? 1 : 0
    const algorithm = size in ALGORITHMS ? ALGORITHMS[size as keyof typeof ALGORITHMS][aes] : ''
    if (algorithm === '') {
      // A KBPK that no key of this cipher can be: nothing is opened.
      await failure(() => kbpk(aes ? 'aes-256' : 'tdea-2key', one.kbpk), 'ERR_KEY_MATERIAL')
      expect(one.result).toBe('invalid')
      return
    }
    const key = await kbpk(algorithm, one.kbpk)
    const opened = openAny(key, one.block, undefined)
    if (one.result === 'invalid') {
      await failure(() => opened, 'ERR_KEY_BLOCK')
      return
    }
    expect(hex((await opened).material)).toBe(one.key)
  })
})

describe('published blocks', () => {
  test.each(VECTORS)('$id', async ({ inputs, outputs }) => {
    const version = field(inputs['version'])
    const algorithm: Kbpk = version === 'D' ? 'aes-256' : 'tdea-2key'
    const key = await kbpk(algorithm, field(inputs['kbpk']))
    const block = field(inputs['block'])
    const { usage, algorithm: cipher } = readKeyBlockHeader(block)
    if (usage === 'B0' || cipher === 'A') {
      // A base derivation key, and an AES PIN key of 128 bits, as the usage table has them or not.
      const { openAny } = await import('../../src/key-block/key-block.js')
      const { material, facts } = await openAny(key, block, undefined)
      expect(hex(material)).toBe(outputs?.['key'])
      expect(facts.algorithm).toBe(cipher === 'A' ? 'aes-128' : 'tdea-2key')
      expect(await entryOf(() => openKeyBlock({ key, block, usage: 'cmac' }))).toBe('usage')
      return
    }
    const opened = await openKeyBlock({ key, block, usage: 'pin-encryption' })
    expect(hex(opened.material)).toBe(outputs?.['key'])
    expect(opened.checkValue).toEqual({ method: 'encrypt-zero', value: outputs?.['kcv'] })
    expect(opened.mode).toBe('E')
    expect(opened.warnings.length).toBe(version === 'A' || version === 'C' ? 1 : 0)
  })

  test('a legacy block that was tampered with does not open, and says no more than that', async () => {
    const { inputs } = VECTORS[0] ?? expect.fail('no vector')
    const key = await kbpk('tdea-2key', field(inputs['kbpk']))
    const block = field(inputs['block'])
    for (const bad of [changed(block, 8, 'D'), changed(block, 20, '00'), changed(block, 66, '00')]) {
      const call = () => openKeyBlock({ key, block: bad, usage: 'pin-encryption' })
      expect((await failure(call, 'ERR_KEY_BLOCK')).message).toBe(
        'key block: block does not open under this KBPK',
      )
    }
    // What was computed for the last is its right MAC: whoever reads this memory does not find it.
    const last = { key, block: changed(block, 66, '00'), usage: 'pin-encryption' } as const
    const { buffers } = await buffersMadeBy(() => failure(() => openKeyBlock(last), 'ERR_KEY_BLOCK'))
    const right = Buffer.from(block.slice(-8), 'hex')
    expect(buffers.length).toBeGreaterThan(3)
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(right))).toEqual([])
  })
})

describe('a block of ours', () => {
  const USES: readonly (readonly [
    KeyUsage,
    KeyMode,
    'tdea-2key' | 'tdea-3key' | 'aes-128' | 'hmac-sha256',
    string,
  ])[] = [
    ['pin-encryption', 'E', 'tdea-2key', PIN_KEY],
    ['pin-encryption', 'D', 'tdea-3key', KBPK['tdea-3key']],
    ['retail-mac', 'G', 'tdea-2key', PIN_KEY],
    ['cmac', 'V', 'aes-128', '2B7E151628AED2A6ABF7158809CF4F3C'],
    ['prw-verify', 'V', 'tdea-2key', PIN_KEY],
    ['hmac', 'G', 'hmac-sha256', HMAC_KEY],
    ['prw-generate', 'G', 'hmac-sha256', HMAC_KEY],
  ]
  const WRAPPERS = Object.keys(KBPK) as Kbpk[]
  const cases = WRAPPERS.flatMap(wrapper => USES.map(use => [wrapper, ...use] as const)).filter(
    ([wrapper, , , algorithm]) =>
      !(wrapper.startsWith('tdea') && algorithm.startsWith('aes')) &&
      !(wrapper !== 'aes-256' && algorithm === 'hmac-sha256') &&
      !(wrapper === 'tdea-2key' && algorithm === 'tdea-3key'),
  )
  /** What the second program is to read, and what is in it: one process for all, as its start takes longer than its work. */
  const made: { kbpk: string; block: string; says: object }[] = []
  test.each(cases)(
    'under %s for %s in mode %s (%s) opens',
    async (wrapper, usage, mode, algorithm, material) => {
      const key = await kbpk(wrapper)
      const optionalBlocks = [
        { id: 'KS', data: '00604B120F9292800000' },
        { id: 'LB', data: 'x'.repeat(300) },
      ]
      const block = await sealed(key, {
        usage,
        mode,
        algorithm,
        material,
        optionalBlocks,
        exportability: 'S',
        keyVersion: '07',
      })
      const opened = await openKeyBlock({ key, block, usage })
      expect(hex(opened.material)).toBe(material)
      expect(opened).toMatchObject({
        usage,
        mode,
        algorithm,
        header: {
          optionalBlocks: algorithm === 'hmac-sha256' ? [HASH, ...optionalBlocks] : optionalBlocks,
          exportability: 'S',
          keyVersion: '07',
        },
      })
      made.push({
        kbpk: KBPK[wrapper],
        block,
        says: { mode, exportability: 'S', key: material, usage: block.slice(5, 7) },
      })
    },
  )

  test('a second program reads each of them', () => {
    expect(made).toHaveLength(cases.length)
    const script = new URL('./read_key_block.py', import.meta.url).pathname
    const read: unknown = JSON.parse(
      execFileSync('python3', [script], {
        input: JSON.stringify(made.map(({ kbpk, block }) => ({ kbpk, block }))),
        encoding: 'utf8',
      }),
    )
    expect(read).toMatchObject(made.map(({ says }) => says))
  })

  test('hides how long the key is', async () => {
    const key = await kbpk('aes-256')
    const short = await sealed(key)
    const long = await sealed(key, { algorithm: 'tdea-3key', material: KBPK['tdea-3key'] })
    expect(short.length).toBe(long.length)
    expect(await sealed(key)).not.toBe(short)
  })

  test('says for what its key is, and nobody gets it for anything else', async () => {
    const key = await kbpk('aes-256')
    const block = await sealed(key, { usage: 'retail-mac', mode: 'C' })
    for (const usage of ['pin-encryption', 'cbc-mac', 'cmac', 'prw-generate', 'key-encryption'] as const)
      expect(await entryOf(() => openKeyBlock({ key, block, usage }))).toBe('usage')
    expect((await openKeyBlock({ key, block, usage: 'retail-mac', mode: 'V' })).mode).toBe('V')
    const enciphers = await sealed(key)
    for (const mode of ['B', 'D'] as const)
      expect(
        await entryOf(() => openKeyBlock({ key, block: enciphers, usage: 'pin-encryption', mode })),
      ).toBe('mode')
    // Changed in the header, the MAC does not hold.
    const forged = changed(block, 5, 'P0')
    expect(
      await entryOf(() => openKeyBlock({ key, block: changed(forged, 8, 'B'), usage: 'pin-encryption' })),
    ).toBe('block')
  })

  test('does not open where any of its characters was changed', async () => {
    const key = await kbpk('tdea-3key')
    const block = await sealed(key, { optionalBlocks: [{ id: 'LB', data: 'ZPK' }] })
    for (let at = 0; at < block.length; at++) {
      const other = block[at] === '0' ? '1' : '0'
      await failure(
        () => openKeyBlock({ key, block: changed(block, at, other), usage: 'pin-encryption' }),
        'ERR_KEY_BLOCK',
        [PIN_KEY],
      )
    }
  })

  test('carries validity dates as whole hours', async () => {
    const key = await kbpk('aes-128')
    const [validFrom, validTo] = [new Date('2026-01-01T00:00:00Z'), new Date('2027-12-31T23:00:00Z')]
    const block = await sealed(key, { validFrom, validTo })
    const { header } = await openKeyBlock({ key, block, usage: 'pin-encryption' })
    expect(header).toMatchObject({ validFrom, validTo })
    for (const bad of [new Date(Number.NaN), new Date('2026-01-01T00:30:00Z'), '2026' as never])
      await failure(() => sealed(key, { validTo: bad }), 'ERR_ARGUMENT')
  })

  test('brought into a token, whose dates are whole days, a key is good for no longer than its block says', async () => {
    const key = await kbpk('aes-128')
    const [validFrom, validTo] = [new Date('2026-01-01T05:00:00Z'), new Date('2027-12-31T23:00:00Z')]
    const block = await sealed(key, { validFrom, validTo })
    const made: { material: Uint8Array }[] = []
    const store = { importKey: async (given: unknown) => void made.push(given as never) as never }
    const wanted = { store, key, block, kid: 'K', usage: 'pin-encryption' } as const
    await importKeyBlock(wanted)
    const within = { validFrom: new Date('2026-02-01T00:00:00Z'), validTo: new Date('2027-02-01T00:00:00Z') }
    await importKeyBlock({ ...wanted, ...within, hostDecipher: true })
    await importKeyBlock({ ...wanted, block: await sealed(key) })
    const common = { kid: 'K', usage: 'pin-encryption', mode: 'E', algorithm: 'tdea-2key' }
    const rest = made.map(({ material, ...one }) => one)
    const checked = { ...common, kcv: { method: 'encrypt-zero', value: '57C409' } }
    const days = { validFrom: new Date('2026-01-02T00:00:00Z'), validTo: new Date('2027-12-31T00:00:00Z') }
    expect(rest).toEqual([{ ...checked, ...days }, { ...checked, ...within, hostDecipher: true }, checked])
    // What the caller says is not authentic, what the block says is: shorter, but not longer, at either end.
    for (const [wider, of] of [
      [{ validFrom: new Date('2026-01-01T23:59:59.999Z') }, block],
      [{ validTo: new Date('2027-12-31T00:00:00.001Z') }, block],
      [{ ...within, validTo: new Date('2028-01-01T00:00:00Z') }, block],
      [{ validTo: new Date('2028-01-01T00:00:00Z') }, await sealed(key, { validTo })],
      [{ validFrom: new Date('2025-01-01T00:00:00Z') }, await sealed(key, { validFrom })],
      [{ validTo: '2027-01-01' as never }, block],
    ] as const) {
      await failure(() => importKeyBlock({ ...wanted, ...wider, block: of }), 'ERR_ARGUMENT')
    }
    expect(made).toHaveLength(3)
    // An end that the block has not is the caller's to set.
    await importKeyBlock({ ...wanted, validTo: within.validTo, block: await sealed(key, { validFrom }) })
    expect(made[3]).toMatchObject({ validFrom: days.validFrom, validTo: within.validTo })
    // The key was there for as long as the store was asked.
    for (const { material } of made) expect([...material]).toEqual(new Array(16).fill(0))
  })

  test("with a check value inside (KC) that is not the key's is refused by that name", async () => {
    const key = await kbpk('aes-128')
    const good = await sealed(key, { optionalBlocks: [{ id: 'KC', data: '0057C409' }] })
    expect((await openKeyBlock({ key, block: good, usage: 'pin-encryption' })).checkValue.value).toBe(
      '57C409',
    )
    const bad = [
      '00000000',
      'hello',
      '0157C409',
      '0057',
      '0057C409000000',
      'x0057C409',
      '0057C409x',
      '0257C409',
    ]
    for (const data of bad) {
      const block = await sealed(key, { optionalBlocks: [{ id: 'KC', data }] })
      expect(await entryOf(() => openKeyBlock({ key, block, usage: 'pin-encryption' }))).toBe(
        'optional block KC',
      )
    }
    const material = '2B7E151628AED2A6ABF7158809CF4F3C'
    const aes = { algorithm: 'aes-128', material, usage: 'cmac', mode: 'C' } as const
    const { checkValue } = await keyCheckValue({ material, algorithm: 'aes-128' })
    for (const digits of [4, 6, 10]) {
      const optionalBlocks = [{ id: 'KC', data: `01${checkValue.value.slice(0, digits)}` }]
      const block = await sealed(key, { ...aes, optionalBlocks })
      expect((await openKeyBlock({ key, block, usage: 'cmac' })).checkValue).toEqual(checkValue)
    }
    // X9.143 has none of an HMAC key.
    const wide = await kbpk('aes-256')
    const { value } = (await keyCheckValue({ material: HMAC_KEY, algorithm: 'hmac-sha256' })).checkValue
    const block = await sealed(wide, {
      usage: 'hmac',
      mode: 'C',
      algorithm: 'hmac-sha256',
      material: HMAC_KEY,
      optionalBlocks: [{ id: 'KC', data: `01${value}` }],
    })
    expect(await entryOf(() => openKeyBlock({ key: wide, block, usage: 'hmac' }))).toBe('optional block KC')
  })

  test('is not written where it would break a rule', async () => {
    const key = await kbpk('aes-128')
    const cases: [Partial<SealKeyBlockInput>, string][] = [
      [{ mode: 'C' }, 'mode'],
      [{ algorithm: 'aes-256', material: KBPK['aes-256'], usage: 'cmac', mode: 'C' }, 'algorithm'],
      [{ usage: 'cbc-mac', mode: 'C', algorithm: 'aes-128', material: KBPK['aes-128'] }, 'algorithm'],
      [{ version: 'B' }, 'version'],
      [{ keyVersion: '1' }, 'key version'],
      [{ exportability: 'X' as never }, 'exportability'],
      [{ optionalBlocks: [{ id: 'lb', data: '' }] }, 'optional block lb'],
      [{ optionalBlocks: [{ id: 'PB', data: '' }] }, 'optional block PB'],
      [{ optionalBlocks: [{ id: 'LB', data: 'é' }] }, 'optional block LB'],
      [{ optionalBlocks: [{ id: 'LB', data: 'x'.repeat(10_000) }] }, 'optional blocks'],
    ]
    for (const [change, entry] of cases)
      expect([entry, await entryOf(() => sealed(key, change))]).toEqual([entry, entry])
    await failure(() => sealed(key, { material: '0123456789ABCDEF0123456789ABCDEF' }), 'ERR_KEY_WEAK')
    for (const change of [
      { version: 'A' },
      { usage: 'x' },
      { algorithm: 'ec-p256' },
      { key: {} },
      { kid: '' },
    ]) {
      const { message } = await failure(() => sealed(key, change as never), 'ERR_ARGUMENT')
      expect(message).toContain(Object.keys(change)[0])
    }
    for (const verb of [openKeyBlock, sealKeyBlock, translateKeyBlock, importKeyBlock])
      expect((await failure(() => verb(undefined as never), 'ERR_ARGUMENT')).message).toContain(verb.name)
  })
})

describe('an HMAC key in a block', () => {
  const hmac = { usage: 'hmac', mode: 'C', algorithm: 'hmac-sha256', material: HMAC_KEY } as const

  test('says its hash, and is refused where the hash is not SHA-256 or the key is no HMAC key', async () => {
    const key = await kbpk('aes-256')
    const block = await sealed(key, hmac)
    expect(block.slice(0, 24)).toBe('D0160M7HC00E0200HM0621PB')
    const opened = await openKeyBlock({ key, block, usage: 'hmac' })
    expect(hex(opened.material)).toBe(HMAC_KEY)
    expect(opened.checkValue).toMatchObject({ method: 'hmac' })
    expect(opened.warnings).toEqual([])
    // Stated by the caller it is written once, in the caller's place.
    expect(await sealed(key, { ...hmac, optionalBlocks: [HASH] })).toHaveLength(block.length)
    const label = { id: 'LB', data: 'storage' }
    const second = await sealed(key, { ...hmac, optionalBlocks: [label, HASH] })
    expect((await openKeyBlock({ key, block: second, usage: 'hmac' })).header.optionalBlocks).toEqual([
      label,
      HASH,
    ])
    for (const data of ['22', '10', '2', '021', ''])
      expect(await entryOf(() => sealed(key, { ...hmac, optionalBlocks: [{ id: 'HM', data }] }))).toBe(
        'optional block HM',
      )
    expect(await entryOf(() => sealed(key, { optionalBlocks: [label, HASH] }))).toBe('optional block HM')
  })

  test('takes a KBPK that is as strong as it, and no AES key of its length takes its place', async () => {
    for (const wrapper of ['aes-128', 'aes-192', 'tdea-3key'] as const)
      expect(await entryOf(async () => sealed(await kbpk(wrapper), hmac))).toBe('algorithm')
    const key = await kbpk('aes-256')
    expect(await entryOf(() => sealed(key, { ...hmac, usage: 'cmac' }))).toBe('algorithm')
    expect(await entryOf(() => sealed(key, { ...hmac, algorithm: 'aes-256' }))).toBe('algorithm')
    const block = await sealed(key, { ...hmac, usage: 'prw-verify', mode: 'V' })
    expect(await entryOf(() => openKeyBlock({ key, block, usage: 'hmac' }))).toBe('usage')
  })

  test('moves under another KBPK with its hash', async () => {
    const [from, to] = [await kbpk('aes-256'), await kbpk('aes-256', HMAC_KEY)]
    const { block } = await translateKeyBlock({
      from,
      to,
      block: await sealed(from, hmac),
      usage: 'hmac',
      version: 'D',
    })
    const { material, header } = await openKeyBlock({ key: to, block, usage: 'hmac' })
    expect(hex(material)).toBe(HMAC_KEY)
    expect(header.optionalBlocks).toEqual([HASH])
  })
})

describe('a KBPK', () => {
  test('does what its mode says, and only where host memory was allowed', async () => {
    const block = await sealed(await kbpk('aes-256'))
    const open = (key: Key) => openKeyBlock({ key, block, usage: 'pin-encryption' })
    await failure(async () => open(await kbpk('aes-256', undefined, 'E')), 'ERR_KEY_USAGE')
    await failure(async () => sealed(await kbpk('aes-256', undefined, 'D')), 'ERR_KEY_USAGE')
    await failure(async () => open(await kbpk('aes-256', undefined, 'B', false)), 'ERR_HOST_DECIPHER')
    await failure(async () => sealed(await kbpk('aes-256', undefined, 'B', false)), 'ERR_HOST_DECIPHER')
    expect(hex((await open(await kbpk('aes-256', undefined, 'D'))).material)).toBe(PIN_KEY)
  })

  test('is a key, and of the cipher that the version takes', async () => {
    const aes = await kbpk('aes-256')
    const block = await sealed(aes)
    const key = await kbpk('tdea-2key')
    expect(await entryOf(() => openKeyBlock({ key, block, usage: 'pin-encryption' }))).toBe('version')
    for (const change of [{ key: {} }, { usage: 'x' }, { mode: 'x' }, { block: 7 }, { version: 'D' }]) {
      const call = () => openKeyBlock({ key: aes, block, usage: 'pin-encryption', ...change } as never)
      expect((await failure(call, 'ERR_ARGUMENT')).message).toContain(Object.keys(change)[0])
    }
  })

  test('a key that the usage does not admit comes out of no block, although the block is authentic', async () => {
    const key = await kbpk('aes-256')
    const longKey = '0123456789ABCDEFFEDCBA98765432108F0D4C2B1A691E75'
    const given = await sealed(key, {
      usage: 'ibm-3624',
      mode: 'V',
      algorithm: 'tdea-3key',
      material: longKey,
    })
    // The same block, for PVVs: those are made with two keys of DES.
    const block = await forged(key, `V2${given.slice(7, 12)}`, [0, 192], longKey, 9)
    const error = await failure(() => openKeyBlock({ key, block, usage: 'visa-pvv' }), 'ERR_KEY_BLOCK', [
      longKey,
    ])
    expect(error).toMatchObject({ entry: 'algorithm', message: expect.stringContaining('tdea-3key') })
  })

  /** An authentic block of whoever has the KBPK, with whatever they put into it. */
  async function forged(key: Key, fields: string, bits: readonly number[], inside: string, pad: number) {
    const { encipherment, authentication } = await protectionKeys(key, undefined)
    const payload = Buffer.alloc(32, pad)
    payload.set([...bits, ...Buffer.from(inside, 'hex')])
    const header = `D${String(16 + 2 * payload.length + 32).padStart(4, '0')}${fields}0000`
    const mac = await macOf('aes-256', authentication, Buffer.from(header), payload)
    const body = await withCipher('aes-256', encipherment, cipher => cipher.encipherCbc(mac, payload))
    return `${header}${hex(body)}${hex(mac)}`
  }

  test.each([
    ['P0TE00E', [0, 128], undefined],
    ['P0TE00E', [0, 192], undefined],
    ['P0AE00E', [0, 128], undefined],
    ['P0TE00E', [0, 0], 'block'],
    ['P0TE00E', [0, 129], 'block'],
    ['P0TE00E', [0, 248], 'block'],
    ['P0AE00E', [1, 0], 'block'],
    ['P0TE00E', [0, 240], 'algorithm'],
    ['P0TE00E', [0, 64], 'algorithm'],
    ['P0SE00E', [0, 128], 'algorithm'],
  ] as const)('opens an authentic block that says %s and %j bits as %s', async (fields, bits, entry) => {
    const key = await kbpk('aes-256')
    const block = await forged(key, fields, bits, `${PIN_KEY}0123456789ABCDEF`, 9)
    const open = () => openKeyBlock({ key, block, usage: 'pin-encryption' })
    if (entry === undefined) expect(hex((await open()).material).slice(0, 32)).toBe(PIN_KEY)
    else expect(await entryOf(open)).toBe(entry)
  })

  test('leaves nothing of a key that came out of its block and is refused', async () => {
    const key = await kbpk('aes-256')
    const weak = '0123456789ABCDEF0123456789ABCDEF'
    const block = await forged(key, 'P0TE00E', [0, 128], weak, 9)
    const { buffers } = await buffersMadeBy(() =>
      failure(() => openKeyBlock({ key, block, usage: 'pin-encryption' }), 'ERR_KEY_WEAK', [weak]),
    )
    expect(buffers.length).toBeGreaterThan(10)
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(weak, 'hex')))).toEqual([])
  })

  test('another one does not open the block', async () => {
    const block = await sealed(await kbpk('aes-128'))
    const key = await kbpk('aes-128', '2B7E151628AED2A6ABF7158809CF4F3C')
    expect(await entryOf(() => openKeyBlock({ key, block, usage: 'pin-encryption' }))).toBe('block')
  })
})

describe('translateKeyBlock', () => {
  test('moves a key with all that its header says, from under one KBPK to under another', async () => {
    const [from, to] = [await kbpk('tdea-2key'), await kbpk('aes-256')]
    const block = await sealed(from, {
      keyVersion: '07',
      optionalBlocks: [{ id: 'LB', data: 'ZPK' }],
      validFrom: new Date('2026-01-01T00:00:00Z'),
      validTo: new Date('2030-01-01T00:00:00Z'),
    })
    const { header } = await openKeyBlock({ key: from, block, usage: 'pin-encryption' })
    expect(header).toMatchObject({ keyVersion: '07', mode: 'E', exportability: 'E' })
    const moved = await translateKeyBlock({ from, to, block, usage: 'pin-encryption', version: 'D' })
    const opened = await openKeyBlock({ key: to, block: moved.block, usage: 'pin-encryption' })
    expect(hex(opened.material)).toBe(PIN_KEY)
    expect({ ...opened.header, length: 0 }).toEqual({ ...header, version: 'D', length: 0 })
    const { buffers } = await buffersMadeBy(() =>
      translateKeyBlock({ from, to, block, usage: 'pin-encryption', version: 'D' }),
    )
    expect(buffers.filter(buffer => Buffer.from(buffer).includes(Buffer.from(PIN_KEY, 'hex')))).toEqual([])
  })

  test('refuses a key that is not exportable', async () => {
    const from = await kbpk('aes-256')
    const block = await sealed(from, { exportability: 'N' })
    const call = () => translateKeyBlock({ from, to: from, block, usage: 'pin-encryption', version: 'D' })
    expect(await entryOf(call)).toBe('exportability')
  })
})
