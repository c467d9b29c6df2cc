/**
 * What each verb prints where all is well, in words and as JSON: a line that is left out, and a value that stands in another's place, is
 * a line here. No two values of a call are the same, so that none is taken for another unseen.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { CKA } from '../../src/backend/pkcs11/binding/constants.js'
import { KEY_BYTES } from '../../src/primitives/algorithms.js'
import { FakeToken } from '../pkcs11/fake-token.js'
import { AES, file, fresh, JWE, KBPK, keys, MAC_KEY, PAN, PEK, PIN, run, TOKEN } from './support/program.js'

/** What differs from run to run, by what it is. */
function settled(text: string): string {
  return text
    .replaceAll(/\/\S*\/(?:new|f)\d+/g, '<path>')
    .replaceAll(/eyJ[\w-]+\.[\w-]*\.[\w-]+(?:\.[\w-]*\.[\w-]*)?/g, '<sealed>')
    .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, date =>
      Math.abs(Date.parse(date) - Date.now()) < 86_400_000 ? '<now>' : date,
    )
    .replaceAll(/(?<="id":")[0-9A-Fa-f]{16,}/g, '<id>')
    .replaceAll(/took \d+\.\d+ ms/g, 'took <time>')
}

type More = NonNullable<Parameters<typeof run>[1]> & {
  /** What is made anew each time, but for what {@link settled} knows. */
  readonly hidden?: RegExp
}
/** Two tokens that hold the same: what changes them is called in words on the one, and with `--json` on the other. */
type Twins = readonly [FakeToken, FakeToken]
type Args = readonly string[] | (() => readonly string[])

const ENV = { PAN, PIN, PEK, AES, KBPK, MAC_KEY, TP: '1234' }

/** Exit code, standard error and standard output of a call, in words and as JSON. */
async function printed(args: Args, { hidden, ...more }: More = {}, twins?: Twins): Promise<string[]> {
  const shown: string[] = []
  for (const [i, json] of [[], ['--json']].entries()) {
    const [verb, ...rest] = typeof args === 'function' ? args() : args
    const { code, out, err } = await run([verb ?? '', ...rest, ...json], { env: ENV, ...more }, twins?.[i])
    // JSON has a line of its own: what is looked at is what it says.
    const said = json.length === 0 || out === '' ? out : JSON.stringify(JSON.parse(out))
    shown.push(...(code === 0 ? [] : [`exit code ${code}`]), ...(err === '' ? [] : [`! ${err}`]), said)
  }
  const text = shown.join('\n')
  return settled(hidden === undefined ? text : text.replaceAll(hidden, '<random>')).split('\n')
}

const ON = ['--keys', keys]
const USE = ['--usage', 'pin-encryption']
const kcvOf = async (key: string): Promise<string> => {
  const { out } = await run(['key', 'kcv', '--algorithm', 'aes-128', '--key-env', 'K'], { env: { K: key } })
  return /KCV (\w+)/.exec(out)?.[1] ?? ''
}
const grouped = (hex: string): string => ` ${hex.replaceAll(/.{4}/g, '$& ')}`

describe('keys', () => {
  const SECOND = '0F1E2D3C4B5A69788796A5B4C3D2E1F0'
  const BOTH = Buffer.from(AES, 'hex').map((byte, i) => byte ^ (Buffer.from(SECOND, 'hex')[i] ?? 0))
  const PERIOD = ['--valid-from', '2026-01-02', '--valid-to', '2041-05-06']
  const KCV = { hidden: /(?<=KCV |"value":")[0-9A-F]{6,10}/g }

  test('of a token', async () => {
    const refuses = { types: [CKA.COPYABLE], code: 0x12 }
    const twins: Twins = [new FakeToken({ refuses }), new FakeToken({ refuses })]
    const bring = (kid: string, key: string, algorithm: string, kcv: string) => [
      ...['key', 'import', '--from', 'clear', '--kid', kid, '--algorithm', algorithm, '--kcv', kcv],
      ...['--key-env', key, '--import-clear-keys', ...TOKEN],
    ]
    const check = ['key', 'check', '--kid', 'ZPK', ...USE, '--mode', 'E', '--kcv', '08D7B4', ...TOKEN]
    const imported = [...bring('ZPK', 'PEK', 'tdea-2key', '08D7B4'), ...USE, '--mode', 'E', ...PERIOD]
    const other = [...bring('M', 'AES', 'aes-128', await kcvOf(AES)), '--usage', 'cmac', '--mode', 'V']
    expect({
      import: await printed(imported, {}, twins),
      another: await printed(other, {}, twins),
      list: await printed(['key', 'list', ...TOKEN], {}, twins),
      check: await printed(check, {}, twins),
      rotate: await printed(['key', 'rotate', '--kid', 'ZPK', '--new-kid', 'NEXT', ...TOKEN], KCV, twins),
      delete: await printed(['key', 'delete', '--kid', 'NEXT', '--yes', ...TOKEN], {}, twins),
    }).toMatchInlineSnapshot(`
      {
        "another": [
          "M: cmac, aes-128, KCV 42246FD821 (cmac); the token did not take CKA_COPYABLE",
          "{"kid":"M","id":"<id>","usage":"cmac","algorithm":"aes-128","checkValue":{"method":"cmac","value":"42246FD821"},"refusedAttributes":["CKA_COPYABLE"]}",
        ],
        "check": [
          "Key ZPK (pin-encryption, mode E, tdea-2key, KCV 08D7B4): the check value is right",
          "{"kid":"ZPK","usage":"pin-encryption","mode":"E","algorithm":"tdea-2key","checkValue":{"method":"encrypt-zero","value":"08D7B4"},"parity":"unknown","validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z"}",
        ],
        "delete": [
          "NEXT is deleted",
          "{"deleted":"NEXT"}",
        ],
        "import": [
          "ZPK: pin-encryption, tdea-2key, KCV 08D7B4 (encrypt-zero); the token did not take CKA_COPYABLE",
          "{"kid":"ZPK","id":"<id>","usage":"pin-encryption","algorithm":"tdea-2key","checkValue":{"method":"encrypt-zero","value":"08D7B4"},"validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z","refusedAttributes":["CKA_COPYABLE"]}",
        ],
        "list": [
          "kid  usage           mode  algorithm  KCV         method        origin      until       state",
          "---  -----           ----  ---------  ---         ------        ------      -----       -----",
          "ZPK  pin-encryption  E     tdea-2key  08D7B4      encrypt-zero  brought-in  2041-05-06  ok",
          "M    cmac            V     aes-128    42246FD821  cmac          brought-in              ok",
          "[{"kid":"ZPK","id":"<id>","usage":"pin-encryption","mode":"E","validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z","algorithm":"tdea-2key","checkValue":{"method":"encrypt-zero","value":"08D7B4"},"origin":"brought-in"},{"kid":"M","id":"<id>","usage":"cmac","mode":"V","algorithm":"aes-128","checkValue":{"method":"cmac","value":"42246FD821"},"origin":"brought-in"}]",
        ],
        "rotate": [
          "NEXT: pin-encryption, tdea-2key, KCV <random> (encrypt-zero); the token did not take CKA_COPYABLE",
          "next: hand its KCV to whoever shares it; move what is enciphered under ZPK (storage rotate moves the issuer store);",
          "then key delete --kid ZPK. Until then ZPK stays for what is old.",
          "{"kid":"NEXT","id":"<id>","usage":"pin-encryption","algorithm":"tdea-2key","checkValue":{"method":"encrypt-zero","value":"<random>"},"refusedAttributes":["CKA_COPYABLE"]}",
        ],
      }
    `)
    const { err } = await run(['key', 'list', ...TOKEN], { terminal: true }, twins[0])
    expect(err.split('\n')).toEqual(['1 of 2 keys', '2 of 2 keys'])
  })

  test('of a ceremony, and its record', async () => {
    const twins: Twins = [new FakeToken(), new FakeToken()]
    const signer = ['--kid', 'SEAL', '--usage', 'cmac', '--algorithm', 'aes-128']
    for (const one of twins) await run(['key', 'generate', ...signer, ...TOKEN], {}, one)
    const paths: string[] = []
    const [first, second] = [await kcvOf(AES), await kcvOf(SECOND)]
    const kcv = await kcvOf(Buffer.from(BOTH).toString('hex'))
    const secrets = [' Adams ', AES, grouped(first), 'Brown', grouped(SECOND), second]
    const ceremony = () => {
      paths.push(fresh())
      return [
        ...['key', 'import', '--from', 'components', '--parts', '2', '--kid', 'Z', '--usage', 'cmac'],
        ...['--mode', 'V', '--algorithm', 'aes-128', '--kcv', grouped(kcv), ...TOKEN],
        ...['--record', paths.at(-1) ?? '', '--record-key', 'SEAL', '--record-usage', 'cmac'],
      ]
    }
    expect(await printed(ceremony, { secrets }, twins)).toMatchInlineSnapshot(`
      [
        "! officer 1: taken",
        "officer 2: taken",
        "Z: cmac, aes-128, KCV 6CAE28793E (cmac)",
        "combined inside the token",
        "! officer 1: taken",
        "officer 2: taken",
        "{"kid":"Z","id":"<id>","usage":"cmac","algorithm":"aes-128","checkValue":{"method":"cmac","value":"6CAE28793E"},"record":{"kid":"Z","usage":"cmac","mode":"V","algorithm":"aes-128","combined":"in-token","checkValue":{"method":"cmac","value":"6CAE28793E"},"components":[{"officer":"Adams","enteredAt":"<now>","checkValue":{"method":"cmac","value":"42246FD821"}},{"officer":"Brown","enteredAt":"<now>","checkValue":{"method":"cmac","value":"270389F4B0"}}],"finishedAt":"<now>"},"sealed":"<sealed>"}",
      ]
    `)
    const read = ['key', 'record', '--record-key', 'SEAL', '--record-usage', 'cmac', ...TOKEN]
    expect(await printed([...read, paths[0] ?? ''], {}, [twins[0], twins[0]])).toMatchInlineSnapshot(`
      [
        "field        value",
        "-----        -----",
        "key          Z: cmac V, aes-128",
        "KCV          6CAE28793E (cmac)",
        "combined     in-token",
        "finished     <now>",
        "component 1  Adams, <now>, KCV 42246FD821 (cmac)",
        "component 2  Brown, <now>, KCV 270389F4B0 (cmac)",
        "{"verified":true,"record":{"kid":"Z","usage":"cmac","mode":"V","algorithm":"aes-128","combined":"in-token","checkValue":{"method":"cmac","value":"6CAE28793E"},"components":[{"officer":"Adams","enteredAt":"<now>","checkValue":{"method":"cmac","value":"42246FD821"}},{"officer":"Brown","enteredAt":"<now>","checkValue":{"method":"cmac","value":"270389F4B0"}}],"finishedAt":"<now>"}}",
      ]
    `)
  })

  test('in files', async () => {
    const [split, combined] = [fresh(), fresh()]
    const parts = ['--kid', 'ZMK', '--algorithm', 'aes-128', '--parts', '2']
    const { out } = await run(['key', 'components', 'split', ...parts, '--key-env', 'AES', '--out', split])
    const kcvs = [...out.matchAll(/-\d +([0-9A-F]{10}) /g)].map(([, kcv = '']) => kcv)
    const secrets = kcvs.flatMap((kcv, i) => [`o${i}`, readFileSync(`${split}-${i + 1}`, 'utf8').trim(), kcv])
    const combine = ['key', 'components', 'combine', ...parts, '--usage', 'cmac', '--mode', 'V']
    const made = await run([...combine, '--kcv', await kcvOf(AES), '--out', combined], { secrets })
    const check = ['key', 'check', '--kid', 'ZMK', '--usage', 'cmac', '--mode', 'V', '--keys', combined]
    const generate = ['key', 'generate', '--kid', 'P', ...USE, '--mode', 'D', '--algorithm', 'tdea-3key']
    expect({
      split: settled(out)
        .replaceAll(/ {2,}|-{2,}/g, '  ')
        .replaceAll(kcvs[0] ?? '', '<1>')
        .replaceAll(kcvs[1] ?? '', '<2>')
        .split('\n'),
      combine: [made.code, made.out, made.err],
      file: JSON.parse(readFileSync(combined, 'utf8')),
      check: await printed(check),
      generate: await printed(() => [...generate, ...PERIOD, '--out', fresh()], KCV),
      kcv: await printed(['key', 'kcv', '--algorithm', 'tdea-2key', '--key-env', 'PEK']),
    }).toMatchInlineSnapshot(`
      {
        "check": [
          "Key ZMK (cmac, mode V, aes-128, KCV 42246FD821)",
          "{"kid":"ZMK","usage":"cmac","mode":"V","algorithm":"aes-128","checkValue":{"method":"cmac","value":"42246FD821"},"parity":"unknown"}",
        ],
        "combine": [
          0,
          "ZMK: aes-128, KCV 42246FD821, parity unknown",
          "officer 1: taken
      officer 2: taken",
        ],
        "file": [
          {
            "algorithm": "aes-128",
            "kid": "ZMK",
            "material": "C1A5D20E7F936B4488D1F03C5E2A9B76",
            "mode": "V",
            "usage": "cmac",
          },
        ],
        "generate": [
          "P: pin-encryption, tdea-3key, KCV <random> (encrypt-zero)",
          "{"kid":"P","usage":"pin-encryption","mode":"D","algorithm":"tdea-3key","checkValue":{"method":"encrypt-zero","value":"<random>"},"validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z"}",
        ],
        "kcv": [
          "KCV 08D7B4 (encrypt-zero), parity odd",
          "{"algorithm":"tdea-2key","checkValue":{"method":"encrypt-zero","value":"08D7B4"},"parity":"odd"}",
        ],
        "split": [
          "file  KCV  method",
          "          ",
          "<path>-1  <1>  cmac",
          "<path>-2  <2>  cmac",
          "ZMK  42246FD821  cmac",
        ],
      }
    `)
  })

  test.each(Object.entries(KEY_BYTES).filter(([name]) => name !== 'ec-p256'))(
    'the check value of one of %s, and its components',
    async (algorithm, bytes) => {
      const env = { ...ENV, K: Buffer.from(Array.from({ length: bytes }, (_, i) => 2 * i)).toString('hex') }
      const own = ['--algorithm', algorithm, '--key-env', 'K']
      const kcv = await run(['key', 'kcv', ...own], { env })
      expect(kcv).toMatchObject({ code: 0, out: expect.stringMatching(/^KCV [0-9A-F]{6,10} /), err: '' })
      const out = fresh()
      const split = await run(['key', 'components', 'split', '--parts', '2', '--out', out, ...own], { env })
      expect([split.code, split.out.split('\n').length]).toEqual([0, 5])
    },
  )

  test('in key blocks', async () => {
    const own = ['--usage', 'cmac', '--mode', 'V', '--algorithm', 'aes-128', '--key-version', '07']
    const seal = ['key', 'block', 'seal', '--kbpk', 'KBPK', '--version', 'D', '--exportability', 'S']
    const block =
      (await run([...seal, ...own, ...PERIOD, '--key-env', 'AES', ...ON])).out.split('\n')[0] ?? ''
    const translate = ['key', 'block', 'translate', '--from', 'KBPK', '--to', 'KBPK2', '--usage', 'cmac']
    const open = ['key', 'block', 'open', '--kbpk', 'KBPK', '--usage', 'cmac', ...ON]
    const body = { hidden: /(?<=0{10})[0-9A-F]{64,}/g }
    const kbpk = { usage: 'key-block-protection', algorithm: 'tdea-2key' } as const
    const old = file([
      { kid: 'B', ...kbpk, material: PEK },
      { kid: 'B2', ...kbpk, material: 'FEDCBA98765432100123456789ABCDEF' },
    ])
    const again = ['key', 'block', 'translate', '--from', 'B', '--to', 'B2', '--usage', 'retail-mac']
    for (const [exportability, code] of [
      ['E', 0],
      ['N', 1],
    ] as const) {
      const sealed = await run(
        [
          ...['key', 'block', 'seal', '--kbpk', 'B', '--version', 'B', '--exportability', exportability],
          ...['--usage', 'retail-mac', '--mode', 'G', '--algorithm', 'tdea-2key', '--key-env', 'MAC_KEY'],
          ...['--keys', old],
        ],
        { env: ENV },
      )
      const header = new RegExp(`^B\\d{4}M3TG00${exportability}0000`)
      expect(sealed.out).toMatch(header)
      const [stdin = ''] = sealed.out.split('\n')
      const moved = await run([...again, '--version', 'B', '--keys', old], { stdin })
      expect(moved).toMatchObject({ code, out: code === 0 ? expect.stringMatching(header) : '' })
    }
    expect({
      seal: await printed([...seal, ...own, ...PERIOD, '--key-env', 'AES', ...ON], body),
      read: await printed(['key', 'block', 'read'], { stdin: block }),
      open: await printed(open, { stdin: block }),
      translate: await printed([...translate, '--version', 'D', ...ON], { stdin: block, ...body }),
    }).toMatchInlineSnapshot(`
      {
        "open": [
          "field          value",
          "-----          -----",
          "version        D",
          "usage          M6",
          "algorithm      A",
          "mode           V",
          "key version    07",
          "exportability  S",
          "optional 03    2026:01:02:00",
          "optional 04    2041:05:06:00",
          "valid from     2026-01-02T00:00:00.000Z",
          "valid to       2041-05-06T00:00:00.000Z",
          "key            aes-128, KCV 42246FD821 (cmac), parity unknown",
          "{"algorithm":"aes-128","usage":"cmac","mode":"V","checkValue":{"method":"cmac","value":"42246FD821"},"parity":"unknown","header":{"version":"D","length":192,"usage":"M6","algorithm":"A","mode":"V","keyVersion":"07","exportability":"S","optionalBlocks":[{"id":"03","data":"2026:01:02:00"},{"id":"04","data":"2041:05:06:00"}],"validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z"},"warnings":[]}",
        ],
        "read": [
          "field          value",
          "-----          -----",
          "version        D",
          "usage          M6",
          "algorithm      A",
          "mode           V",
          "key version    07",
          "exportability  S",
          "optional 03    2026:01:02:00",
          "optional 04    2041:05:06:00",
          "valid from     2026-01-02T00:00:00.000Z",
          "valid to       2041-05-06T00:00:00.000Z",
          "not authenticated: read without a key",
          "{"version":"D","length":192,"usage":"M6","algorithm":"A","mode":"V","keyVersion":"07","exportability":"S","optionalBlocks":[{"id":"03","data":"2026:01:02:00"},{"id":"04","data":"2041:05:06:00"}],"validFrom":"2026-01-02T00:00:00.000Z","validTo":"2041-05-06T00:00:00.000Z"}",
        ],
        "seal": [
          "D0192M6AV07S030003112026:01:02:0004112041:05:06:00PB0E0000000000<random>",
          "KCV 42246FD821 (cmac)",
          "{"block":"D0192M6AV07S030003112026:01:02:0004112041:05:06:00PB0E0000000000<random>","checkValue":{"method":"cmac","value":"42246FD821"}}",
        ],
        "translate": [
          "D0192M6AV07S030003112026:01:02:0004112041:05:06:00PB0E0000000000<random>",
          "{"block":"D0192M6AV07S030003112026:01:02:0004112041:05:06:00PB0E0000000000<random>","checkValue":{"method":"cmac","value":"42246FD821"}}",
        ],
      }
    `)
    expect(await run([...open, '--mode', 'G'], { stdin: block })).toMatchObject({ code: 1, out: '' })
  })
})

describe('computations', () => {
  const SECRETS = ['--pan-env', 'PAN', '--card-pin-env', 'PIN']

  test('on PIN blocks', async () => {
    const from = ['--key', 'PEK', '--format', '0', ...ON, '--pan-env', 'PAN']
    const stdin = (await run(['pin', 'encipher', ...from, '--card-pin-env', 'PIN'])).out
    const tdea = { algorithm: 'tdea-2key' } as const
    const more = file([
      { kid: 'V', usage: 'visa-pvv', ...tdea, material: '1A'.repeat(8).concat('2C'.repeat(8)) },
      { kid: 'I', usage: 'ibm-3624', ...tdea, material: '3B'.repeat(8).concat('4F'.repeat(8)) },
    ])
    const rule = file({ decimalisation: '0123456789012345', validation: { from: 0, length: 16, pad: 'F' } })
    const translate = ['pin', 'translate', '--from', 'PEK', '--to', 'PEK2', '--host-decipher']
    const formats = ['--from-format', '0', '--to-format', '3', '--pan-env', 'PAN', ...ON]
    const natural = ['pin', 'natural', '--key', 'PEK2', '--format', '3', '--length', '5', '--pan-env', 'PAN']
    const threeSixTwoFour = ['--pvk', 'I', '--rule', rule, '--keys', more]
    const random = { hidden: /\b[0-9A-F]{16}\b/g }
    expect({
      encipher: await printed(['pin', 'encipher', '--key', 'PEK', '--format', '0', ...SECRETS, ...ON]),
      decipher: await printed(['pin', 'decipher', ...from], { stdin }),
      reveal: await printed(['pin', 'decipher', '--reveal', ...from], { stdin }),
      translate: await printed([...translate, ...formats], { stdin, ...random }),
      verify: await printed(['pin', 'verify', ...from, '--card-pin-env', 'PIN'], { stdin }),
      pvv: await printed(['pin', 'pvv', ...from, '--pvk', 'V', '--pvki', '3', '--keys', more], { stdin }),
      offset: await printed(['pin', 'offset', ...from, ...threeSixTwoFour], { stdin }),
      natural: await printed([...natural, ...threeSixTwoFour, ...ON], random),
    }).toMatchInlineSnapshot(`
      {
        "decipher": [
          "a PIN of 6 digits (--reveal shows it)",
          "{"digits":6}",
        ],
        "encipher": [
          "EF04A72AF0328AEB",
          "{"block":"EF04A72AF0328AEB","kid":"PEK","format":0}",
        ],
        "natural": [
          "<random>",
          "{"block":"<random>","kid":"PEK2","format":3}",
        ],
        "offset": [
          "440373",
          "{"offset":"440373","kid":"I"}",
        ],
        "pvv": [
          "0432",
          "{"pvv":"0432","kid":"V"}",
        ],
        "reveal": [
          "471193",
          "{"digits":6,"pin":"471193"}",
        ],
        "translate": [
          "<random>",
          "{"block":"<random>","kid":"PEK2","format":3}",
        ],
        "verify": [
          "the PIN is right",
          "{"verified":true}",
        ],
      }
    `)
  })

  test.each(['1', '4'])('on PIN blocks of format %s', async format => {
    const algorithm = format === '4' ? 'aes-128' : 'tdea-2key'
    const mine = file([{ kid: 'K', usage: 'pin-encryption', algorithm, material: AES }])
    const own = ['--key', 'K', '--format', format, '--keys', mine, '--pan-env', 'PAN']
    const { out } = await run(['pin', 'encipher', ...own, '--card-pin-env', 'PIN'])
    expect((await run(['pin', 'decipher', '--reveal', ...own], { stdin: out })).out).toBe(PIN)
    const inspect = ['inspect', 'pin-block', '--state', 'enciphered', ...own]
    expect(await run(inspect, { stdin: out })).toMatchObject({ code: 0, err: '' })
  })

  test('MACs, each with its key and by its own rules', async () => {
    // NIST SP 800-38B, D.1, example 2: one key whose modes are another each time.
    const material = '2B7E151628AED2A6ABF7158809CF4F3C'
    const [hex, mac] = ['6BC1BEE22E409F96E93D7E117393172A', '070A16B46B4D4144F79BDD9DD04A287C']
    const cmacIn = (mode: string) => [
      ...['--key', 'C', '--keys', file([{ kid: 'C', usage: 'cmac', mode, algorithm: 'aes-128', material }])],
    ]
    const tdea = file([
      { kid: 'ONE', usage: 'cbc-mac', mode: 'C', algorithm: 'tdea-2key', material: MAC_KEY },
      { kid: 'THREE', usage: 'retail-mac', mode: 'C', algorithm: 'tdea-2key', material: PEK },
    ])
    const one = ['--key', 'ONE', '--algorithm', 'iso9797-1-alg1', '--padding', '3', '--length', '6']
    const three = ['--key', 'THREE', '--algorithm', 'iso9797-1-alg3', '--padding', '2', '--length', '4']
    const cmac = ['--algorithm', 'cmac', '--length', '16', '--hex']
    const verify = ['mac', 'verify', '--mac', mac, ...cmac]
    expect({
      one: await printed(['mac', 'compute', ...one, '--keys', tdea], { stdin: 'a' }),
      three: await printed(['mac', 'compute', ...three, '--keys', tdea], { stdin: 'b' }),
      cmac: await printed(['mac', 'compute', ...cmac, ...cmacIn('G')], { stdin: hex }),
      verify: await printed([...verify, ...cmacIn('V')], { stdin: hex }),
      wrong: await printed([...verify, ...cmacIn('V')], { stdin: hex.replace('6B', '6C') }),
    }).toMatchInlineSnapshot(`
      {
        "cmac": [
          "070A16B46B4D4144F79BDD9DD04A287C",
          "{"mac":"070A16B46B4D4144F79BDD9DD04A287C","kid":"C","algorithm":"cmac","padding":"none","length":16}",
        ],
        "one": [
          "BED01B400E2E",
          "{"mac":"BED01B400E2E","kid":"ONE","algorithm":"iso9797-1-alg1","padding":3,"length":6}",
        ],
        "three": [
          "F30DA15F",
          "{"mac":"F30DA15F","kid":"THREE","algorithm":"iso9797-1-alg3","padding":2,"length":4}",
        ],
        "verify": [
          "the MAC is right",
          "{"verified":true}",
        ],
        "wrong": [
          "exit code 1",
          "the MAC is wrong",
          "exit code 1",
          "{"verified":false}",
        ],
      }
    `)
    // Who may verify alone makes none, and the other way round.
    expect((await run([...verify, ...cmacIn('G')], { stdin: hex })).code).toBe(1)
    expect((await run(['mac', 'compute', ...cmac, ...cmacIn('V')], { stdin: hex })).code).toBe(1)
  })

  test('PRWs', async () => {
    const values = {
      ...{ pan: PAN, pin: PIN, pcc: '0001', intdatag: 'TAG-0123456789-ABCDE', random: '0A1B2C3D' },
      fields: { psn: '01', expiry: '2912', issuer: 'is_tbank01' },
    }
    const on = (usage: string) => [
      '--keys',
      file([{ kid: 'R', usage, algorithm: 'tdea-2key', material: PEK }]),
    ]
    const own = ['--key', 'R', '--profile', 'illustrative-tdea']
    const compute = ['prw', 'compute', ...own, ...on('prw-generate')]
    const stdin = JSON.stringify(values)
    const stored = JSON.parse((await run([...compute, '--json'], { stdin })).out) as object
    const verify = ['prw', 'verify', ...own, ...on('prw-verify')]
    expect({
      compute: await printed(compute, { stdin }),
      verify: await printed(verify, { stdin: JSON.stringify({ ...values, ...stored }) }),
      wrong: await printed(verify, { stdin: JSON.stringify({ ...values, ...stored, pin: '999999' }) }),
    }).toMatchInlineSnapshot(`
      {
        "compute": [
          "5A4A9B30EE7CE541",
          "0100000000000000000000012912000100000000000000000A1B2C3D69735F7462616E6B30315441472D303132333435363738392D41424344450000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
          "{"prwValue":"5A4A9B30EE7CE541","prwDataSet":"0100000000000000000000012912000100000000000000000A1B2C3D69735F7462616E6B30315441472D303132333435363738392D41424344450000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000","random":"0A1B2C3D"}",
        ],
        "verify": [
          "the PRW is right",
          "{"verified":true}",
        ],
        "wrong": [
          "exit code 1",
          "the PRW is wrong",
          "exit code 1",
          "{"verified":false}",
        ],
      }
    `)
  })

  test('JWEs', async () => {
    const recipient = ['--recipient', file({ ...JWE, d: undefined, kid: 'JWE' })]
    const content = { kid: 7, prwKid: 'PRW-1', macKid: 'MAC-2', intdatag: 'TAG', pinValue: PIN, other: 12345 }
    const { out: stdin } = await run(['jwe', 'seal', ...recipient], { stdin: JSON.stringify(content) })
    const open = ['jwe', 'open', '--key', 'JWE', ...ON]
    expect({
      seal: await printed(['jwe', 'seal', ...recipient, '--kid', 'THEIRS'], { stdin: 'x' }),
      open: await printed(open, { stdin }),
      reveal: await printed([...open, '--reveal'], { stdin }),
    }).toMatchInlineSnapshot(`
      {
        "open": [
          "{",
          "  "kid": "•• 1 characters",",
          "  "prwKid": "PRW-1",",
          "  "macKid": "MAC-2",",
          "  "intdatag": "TAG",",
          "  "pinValue": "•• 6 characters",",
          "  "other": "•• 5 characters"",
          "}",
          "{"kid":"JWE","header":{"kid":"JWE"},"plaintext":{"kid":"•• 1 characters","prwKid":"PRW-1","macKid":"MAC-2","intdatag":"TAG","pinValue":"•• 6 characters","other":"•• 5 characters"}}",
        ],
        "reveal": [
          "{"kid":7,"prwKid":"PRW-1","macKid":"MAC-2","intdatag":"TAG","pinValue":"471193","other":12345}",
          "{"kid":"JWE","header":{"kid":"JWE"},"plaintext":"{\\"kid\\":7,\\"prwKid\\":\\"PRW-1\\",\\"macKid\\":\\"MAC-2\\",\\"intdatag\\":\\"TAG\\",\\"pinValue\\":\\"471193\\",\\"other\\":12345}"}",
        ],
        "seal": [
          "<sealed>",
          "{"jwe":"<sealed>","kid":"THEIRS"}",
        ],
      }
    `)
  })
})

test('a token', async () => {
  const twins: Twins = [new FakeToken(), new FakeToken()]
  expect(await printed(['token', '--composed-mac', ...TOKEN], {}, twins)).toMatchInlineSnapshot(`
    [
      "                    found                                                            remark",
      "                    -----                                                            ------",
      "health              ok                                                               token "fake" answers; TDEA known answer right; all bound keys are there",
      "backend             pkcs11",
      "TDEA                fake 1.0, token fake: CKM_DES3_ECB, two-key bundles as CKK_DES2",
      "MAC iso9797-1-alg1  native",
      "MAC iso9797-1-alg3  composed",
      "MAC cmac            native",
      "MAC hmac-sha256     native",
      "key agreement       token-digest-key",
      "signing (ES256)     native",
      "re-encipherment     host",
      "random              C_GenerateRandom of fake 1.0",
      "note                                                                                 executor inline (asked for): a known answer took <time>; 1 calls at a time; binding fake",
      "note                                                                                 ECDH1_DERIVE with the KDF of SP 800-56C: C_DeriveKey returned CKR_MECHANISM_PARAM_INVALID",
      "note                                                                                 tried on a test key: this token gives no copy wider rights",
      "note                                                                                 tried on a test key: this token gives a key that is not modifiable no wider rights",
      "note                                                                                 tried on a test key: CKA_UNWRAP_TEMPLATE holds",
      "note                                                                                 tried on a test key: CKA_WRAP_TEMPLATE holds",
      "{"capabilities":{"backend":"pkcs11","tdea":"fake 1.0, token fake: CKM_DES3_ECB, two-key bundles as CKK_DES2","macs":{"iso9797-1-alg1":"native","iso9797-1-alg3":"composed","cmac":"native","hmac-sha256":"native"},"derivation":"none","keyAgreement":"token-digest-key","signing":"native","reencipher":"host","random":"C_GenerateRandom of fake 1.0","notes":["executor inline (asked for): a known answer took <time>; 1 calls at a time; binding fake","ECDH1_DERIVE with the KDF of SP 800-56C: C_DeriveKey returned CKR_MECHANISM_PARAM_INVALID","tried on a test key: this token gives no copy wider rights","tried on a test key: this token gives a key that is not modifiable no wider rights","tried on a test key: CKA_UNWRAP_TEMPLATE holds","tried on a test key: CKA_WRAP_TEMPLATE holds"]},"health":{"ok":true,"state":"open","detail":"token \\"fake\\" answers; TDEA known answer right; all bound keys are there"}}",
    ]
  `)
})
