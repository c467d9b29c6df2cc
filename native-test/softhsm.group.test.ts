/** A group of two SoftHSM tokens in processes of their own, the first behind a module that fails and hangs on demand. */
import { beforeAll, expect, test } from 'vitest'
import { operationsOf } from '../src/backend/key.js'
import type { Starter } from '../src/backend/pkcs11/executor/channels.js'
import { openGroup } from '../src/backend/pkcs11/group.js'
import type { GroupEvent } from '../src/pkcs11.js'
import { CONTRACT_KEYS } from '../src/testing.js'
import { type FaultyToken, makeFaultyToken, starterFromSources } from './faults/shim.js'
import { provision } from './provision.js'
import { describeSoftHsm, makeToken } from './softhsm.js'

const BLOCK = new Uint8Array(8)

describeSoftHsm('group of two tokens', () => {
  let faulty: FaultyToken
  let starter: Starter
  const second = makeToken('group b')
  const keys = CONTRACT_KEYS.filter(({ kid }) => ['PEK-2', 'PEK-3'].includes(kid))
  beforeAll(async () => {
    faulty = makeFaultyToken('group a')
    starter = starterFromSources()
    for (const options of [faulty.options, second]) await provision({ ...options, executor: 'inline' }, keys)
  })

  test('failover, fail-back, and a key that was changed in one of them', async () => {
    const events: GroupEvent[] = []
    const common = { executor: 'process', sessions: { max: 2 }, timeouts: { callMs: 5000 } } as const
    await using group = await openGroup(
      {
        members: [
          { ...faulty.options, ...common },
          { ...second, ...common },
        ],
        probeMs: 50,
        failBackAfter: 2,
        onEvent: event => events.push(event),
      },
      undefined,
      { starter },
    )
    const become = async (state: string): Promise<void> => {
      for (let i = 0; i < 3000; i++) {
        if (events.some(event => event.member === 0 && event.state === state)) return
        await new Promise(resolve => setTimeout(resolve, 10))
      }
      throw new Error(`member 0 is not ${state}`)
    }
    const key = await group.bind({ kid: 'PEK-2', usage: 'pin-encryption' })
    const before = await operationsOf(key).encipher(BLOCK)

    faulty.set({ fn: '*', code: 0xe0 })
    const answers = await Promise.all(Array.from({ length: 20 }, () => operationsOf(key).encipher(BLOCK)))
    for (const answer of answers) expect(answer).toEqual(before)
    expect(events[0]).toMatchObject({ member: 0, state: 'away', active: 1 })
    expect(await group.health()).toMatchObject({ ok: true, state: 'degraded' })
    faulty.set()
    await become('ready')
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(await group.health()).toMatchObject({ ok: true, state: 'open' })

    // Rotation by another process, in one token only.
    events.length = 0
    const pek = CONTRACT_KEYS.filter(({ kid }) => kid === 'PEK-2')
    const changed = pek.map(each => ({ ...each, material: 'FEDCBA98765432100123456789ABCDEF' }))
    await provision({ ...faulty.options, executor: 'inline' }, changed)
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
    expect(events[0]).toMatchObject({ member: 0, state: 'wrong', active: 1, code: 'ERR_KEY_CHECK_VALUE' })
    await provision({ ...faulty.options, executor: 'inline' }, pek)
    await become('ready')
    expect(await operationsOf(key).encipher(BLOCK)).toEqual(before)
  })
})
