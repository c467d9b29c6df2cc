/** How input comes in: in pieces, as pipes hand it over, and with the line end of any editor; what comes in, and is not kept, is wiped. */
import { closeSync, openSync, readFileSync } from 'node:fs'
import { expect, test, vi } from 'vitest'
import { readInputBytes } from '../../src/cli/command.js'
import { main } from '../../src/cli/main.js'
import { readProfileSample, withSamples } from '../../src/cli/probe.js'
import type { ProfileSample } from '../../src/tools.js'
import { buffersMadeBy } from '../leaks/recorder.js'
import { keptIo } from './support/io.js'
import { AES, env, file, fresh, keys, PAN, PEK, PIN, run, wiping } from './support/program.js'

/** How many bytes there are at a time. */
const piece = vi.hoisted(() => ({ bytes: 7 }))
vi.mock('node:fs', async original => {
  const real = await original<typeof import('node:fs')>()
  const readSync = (fd: number, into: NodeJS.ArrayBufferView, offset: number, length: number): number =>
    real.readSync(fd, into, offset, Math.min(length, piece.bytes), null)
  return { ...real, readSync }
})

/** Enciphers a PIN; PIN and PAN come from descriptors. */
async function encipher(pin: string, pan: string) {
  const descriptors = [pin, pan].map(content => openSync(file(content), 'r'))
  const [pinFd, panFd] = descriptors.map(String)
  const from = ['--card-pin-fd', pinFd ?? '', '--pan-fd', panFd ?? '']
  try {
    return await run(['pin', 'encipher', '--key', 'PEK', '--format', '0', '--keys', keys, ...from])
  } finally {
    for (const descriptor of descriptors) closeSync(descriptor)
  }
}

test.each(['', '\n', '\r\n'])('from a descriptor, in pieces, with %j behind it', async end => {
  const { code, out, err } = await encipher(`${PIN}${end}`, `${PAN}${end}`)
  expect([code, out, err]).toEqual([0, 'EF04A72AF0328AEB', ''])
})

test('a second line is none of its secret, and makes it a wrong one', async () => {
  expect(await encipher(`${PIN}\n\n`, PAN)).toMatchObject({ code: 1, out: '' })
  expect(await encipher(PIN, `${PAN}\n\n`)).toMatchObject({ code: 1, out: '' })
})

test('standard input and a file that are too long are wiped', async () => {
  const long = Buffer.alloc(1_048_577, PIN)
  const wanted = { code: 'ERR_USAGE', message: 'the input is longer than 1048576 bytes' }
  await expect(readInputBytes(undefined, { ...keptIo(), readStdin: async () => long })).rejects.toMatchObject(
    wanted,
  )
  expect(long.equals(Buffer.alloc(long.length))).toBe(true)
  const path = file(PIN.repeat(200_000))
  piece.bytes = 65_536
  try {
    const { value, buffers } = await buffersMadeBy(() =>
      readInputBytes(path, keptIo()).catch(({ message }: Error) => message),
    )
    expect(value).toBe('the file is longer than 1048576 bytes')
    expect(buffers.some(({ byteLength }) => byteLength > 1_048_576)).toBe(true)
    for (const buffer of buffers) expect(Buffer.from(buffer).includes(PIN)).toBe(false)
  } finally {
    piece.bytes = 7
  }
})

test('a clear PIN block that was looked at', async () => {
  const block = '0412AC89ABCDEF67'
  const inspect = ['inspect', 'pin-block', '--state', 'clear']
  const call = (): Promise<number> => main(inspect, keptIo({ stdin: block }))
  expect(await wiping(inspect, call, { keys: [block] })).toBe(0)
})

test('components, and a key, that were written into files', async () => {
  const [out, path] = [fresh(), fresh()]
  const split = ['key', 'components', 'split', '--algorithm', 'aes-128', '--parts', '2', '--out', out]
  const generate = [
    'key',
    'generate',
    '--kid',
    'K',
    '--usage',
    'cmac',
    '--algorithm',
    'aes-256',
    '--out',
    path,
  ]
  const made: string[] = []
  const call = async (): Promise<number[]> => {
    const codes = [
      await main([...split, '--key-env', 'AES'], keptIo({ env: { ...env, AES } })),
      await main(generate, keptIo()),
    ]
    // Known once they are there; memory is looked through afterwards.
    made.push(...[1, 2].map(i => readFileSync(`${out}-${i}`, 'utf8').trim()))
    made.push((JSON.parse(readFileSync(path, 'utf8')) as { material: string }[])[0]?.material ?? '')
    return codes
  }
  expect(await wiping(split.slice(0, 3), call, { keys: made })).toEqual([0, 0])
  expect(made.map(({ length }) => length)).toEqual([32, 32, 64])
})

test.each([false, true])(
  'the test keys and PINs of samples, also where what they are for fails: %s',
  async fails => {
    const sample = {
      pan: PAN,
      pin: PIN,
      pcc: '0001',
      intdatag: 'T',
      prwDataSet: '',
      prwValue: '',
      macValue: '',
    }
    const text = JSON.stringify({ prwTestKey: PEK, macTestKey: AES, samples: [sample] })
    const given: { prwTestKey: Uint8Array; macTestKey: Uint8Array; samples: readonly ProfileSample[] }[] = []
    const seen: string[] = []
    const used = withSamples(text, readProfileSample, async read => {
      given.push(read)
      seen.push(
        Buffer.from(read.prwTestKey).toString('hex').toUpperCase(),
        read.samples[0]?.pin.reveal() ?? '',
      )
      if (fails) throw new Error('out of memory')
    })
    await (fails ? expect(used).rejects.toThrow('out of memory') : used)
    expect(seen).toEqual([PEK, PIN])
    const [one] = given
    expect([one?.prwTestKey, one?.macTestKey].map(key => Buffer.from(key ?? []).toString('hex'))).toEqual([
      '00'.repeat(16),
      '00'.repeat(16),
    ])
    expect(() => one?.samples[0]?.pin.reveal()).toThrow()
  },
)
