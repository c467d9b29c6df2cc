/** `issuer-pin-crypto token` on a real module. */
import { expect, test } from 'vitest'
import type { Io } from '../src/cli/command.js'
import { main } from '../src/cli/main.js'
import { describeSoftHsm, makeToken, SOFTHSM_MODULE, USER_PIN } from './softhsm.js'

describeSoftHsm('the command token on SoftHSM', () => {
  makeToken('issuer')

  async function run(args: readonly string[], pin: string) {
    const [out, err]: [string[], string[]] = [[], []]
    const io: Io = {
      out: text => void out.push(text),
      err: text => void err.push(text),
      readStdin: async () => Buffer.alloc(0),
      askSecret: async () => pin,
      env: { HSM_PIN: pin },
    }
    const code = await main(['token', '--module', SOFTHSM_MODULE ?? '', ...args], io)
    return { code, out: out.join('\n'), err: err.join('\n') }
  }

  test('a token that is not there, and a wrong PIN, are one line with a code', async () => {
    const missing = await run(['--token', 'nobody', '--pin-env', 'HSM_PIN'], USER_PIN)
    expect(missing).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/^ERR_PKCS11_TOKEN: [^\n]+$/),
    })
    const wrong = await run(['--token', 'issuer'], 'wrong-canary-41')
    expect(wrong).toMatchObject({
      code: 1,
      out: '',
      err: expect.stringMatching(/^ERR_PKCS11_LOGIN: [^\n]+$/),
    })
    expect(wrong.err).not.toContain('canary')
  })

  test('capabilities and health, by a PIN from the environment and by one that is typed', async () => {
    for (const args of [
      ['--token', 'issuer', '--pin-env', 'HSM_PIN'],
      ['--token', 'issuer', '--composed-mac'],
    ]) {
      const { code, out, err } = await run(args, USER_PIN)
      expect({ code, err }).toEqual({ code: 0, err: '' })
      expect(out).toMatch(/^health +ok /m)
      expect(out).toMatch(/^backend +pkcs11$/m)
      const composed = args.includes('--composed-mac')
      expect(out).toMatch(composed ? /^MAC iso9797-1-alg3 +composed$/m : /^MAC iso9797-1-alg3 +none$/m)
      expect(out).not.toContain(USER_PIN)
    }
  })
})
