/** The steps alone, on records as a store may give them back. */
import { describe, expect, test } from 'vitest'
import {
  type CardState,
  claimStep,
  confirmStep,
  enterInstance,
  expireStep,
  fixedRequest,
  type Issued,
  issueStep,
  MAX_OPEN,
  type PccPolicy,
  readRequest,
  readState,
  restartStep,
  showState,
  supersedeStep,
  tagOf,
} from '../../src/seccos/counter/state.js'

const NOW = 1000
const POLICY: PccPolicy = { rule: 'increment-on-accept', wrap: 'refuse' }
const open = (tag: string, more: Partial<Issued> = {}): Issued =>
  ({ tag, pcc: 7, expiresAt: NOW + 1, state: 'open', ...more }) as Issued
const claimed = (tag: string, state: 'claimed' | 'spent', sequence = 1): Issued =>
  open(tag, { state, fingerprint: 'AA', sequence })
const card = (...issued: Issued[]): CardState => ({ pcc: 7, sequence: 1, issued })
const HASH = 'a5'.repeat(32)
const HASH_2 = '5A'.repeat(32)
/** An entry as a store may hold it. */
const stored = (more: Partial<Issued> = {}): Issued => open(HASH, more)
const request = (tag: string, more: object = {}) => ({ tag, pcc: 7, fingerprint: 'AA', ...more })
const refused = (reason: string) => expect.objectContaining({ code: 'ERR_CHANGE_COUNTER', reason })
const states = ({ issued }: CardState): string[] => issued.map(({ tag, state }) => `${tag} ${state}`)

describe('a confirmation is refused', () => {
  test.each<[string, CardState, string]>([
    ['where the record has lost the claim', card(), 'unknown'],
    [
      'where another request claimed it',
      card({ ...claimed('a', 'claimed'), fingerprint: 'BB' } as Issued),
      'unknown',
    ],
    ['where it was never claimed', card(open('a')), 'unknown'],
    [
      'where a later request superseded it',
      card({ ...claimed('a', 'claimed'), state: 'superseded' }),
      'superseded',
    ],
  ])('%s', (_, state, reason) => {
    expect(() => confirmStep(state, request('a'))).toThrow(refused(reason))
  })

  test('and is none where it was made before', () => {
    expect(confirmStep(card(claimed('a', 'spent')), request('a'))).toBeUndefined()
  })
})

test('a confirmation spends its own entry and leaves the others', () => {
  const before = card(claimed('a', 'spent'), claimed('b', 'claimed', 2), open('c'))
  const after = confirmStep(before, request('b'))
  expect(after && states(after)).toEqual(['a spent', 'b spent', 'c open'])
  expect(after?.issued[1]).toEqual({ ...before.issued[1], state: 'spent' })
  expect(after).toMatchObject({ pcc: 7, sequence: 1 })
})

describe('a claim', () => {
  test.each<[string, CardState, object, string]>([
    ['of what the card does not have', card(open('b')), {}, 'unknown'],
    ['with another PCC', card(open('a')), { pcc: 8 }, 'pcc'],
    ['of what was superseded', card(open('a', { state: 'superseded' })), {}, 'superseded'],
    ['by another request than the one before', card(claimed('a', 'claimed')), { fingerprint: 'BB' }, 'spent'],
    ['at the very moment of its expiry', card(open('a', { expiresAt: NOW })), {}, 'expired'],
  ])('%s is refused', (_, state, more, reason) => {
    expect(() => claimStep(state, request('a', more), NOW, POLICY)).toThrow(refused(reason))
  })

  test('supersedes what is open or claimed, keeps what is spent, and moves PCC and sequence', () => {
    const { next, ...result } = claimStep(
      card(claimed('a', 'spent'), claimed('b', 'claimed'), open('c'), open('d')),
      request('d'),
      NOW,
      POLICY,
    )
    expect(result).toMatchObject({ entry: { state: 'claimed', sequence: 2 }, sequence: 2, replayed: false })
    expect(next && states(next)).toEqual(['a spent', 'b superseded', 'c superseded', 'd claimed'])
    expect(next).toMatchObject({ pcc: 8, sequence: 2 })
    expect(next?.issued[3]).toMatchObject({ fingerprint: 'AA', sequence: 2 })
  })

  test('that is repeated is let through with its sequence; once it is expired, only where it was stored', () => {
    for (const state of ['claimed', 'spent'] as const) {
      const again = claimStep(card(claimed('a', state, 5)), request('a'), NOW, POLICY)
      expect(again).toMatchObject({ entry: { state }, sequence: 5, replayed: state === 'spent' })
    }
    const late = (state: 'claimed' | 'spent') => () =>
      claimStep(card(claimed('a', state, 5)), request('a'), NOW + 1, POLICY)
    expect(late('spent')()).toMatchObject({ entry: { state: 'spent' }, sequence: 5, replayed: true })
    expect(late('claimed')).toThrow(refused('expired'))
  })

  test('of a card without a further PCC leaves it without one', () => {
    expect(claimStep({ ...card(open('a')), pcc: null }, request('a'), NOW, POLICY).next?.pcc).toBeNull()
  })

  test.each([
    ['refuse', null],
    ['wrap-to-0000', 0],
    ['wrap-to-0001', 1],
  ] as const)('of 9999 by %s is followed by %j', (wrap, after) => {
    const last = { ...card(open('a', { pcc: 9999 })), pcc: 9999 }
    const { next } = claimStep(last, request('a', { pcc: 9999 }), NOW, { rule: 'increment-on-accept', wrap })
    expect(next?.pcc).toBe(after)
  })
})

describe('an issue', () => {
  const entry = { tag: 'new', expiresAt: NOW + 5, now: NOW }
  const issue = (...issued: Issued[]) => issueStep(card(...issued), entry, POLICY)
  const many = (count: number, make: (i: number) => Issued): Issued[] =>
    Array.from({ length: count }, (_, i) => make(i))

  test('of a card without a further PCC is exhausted', () => {
    expect(() => issueStep({ ...card(), pcc: null }, entry, POLICY)).toThrow(refused('exhausted'))
  })

  test('opens an entry under the PCC, which moves only where the rule says so', () => {
    const { next, pcc } = issue()
    expect([pcc, next.pcc]).toEqual([7, 7])
    expect(next.issued).toEqual([{ tag: 'new', pcc: 7, expiresAt: NOW + 5, state: 'open' }])
    const moved = issueStep(card(), entry, { ...POLICY, rule: 'increment-on-issue' })
    expect([moved.pcc, moved.next.pcc]).toEqual([7, 8])
  })

  test('beyond eight open ones supersedes the oldest, and expired ones do not count', () => {
    expect(states(issue(...many(MAX_OPEN - 1, i => open(`${i}`))).next)).not.toContain('0 superseded')
    expect(states(issue(...many(MAX_OPEN, i => open(`${i}`))).next)[0]).toBe('0 superseded')
    const expired = open('old', { expiresAt: NOW })
    const { next } = issue(expired, ...many(MAX_OPEN, i => open(`${i}`)))
    expect(states(next).slice(0, 3)).toEqual(['old open', '0 superseded', '1 open'])
  })

  test('beyond sixteen entries forgets a dead one first, then a spent one', () => {
    const spent = many(15, i => claimed(`s${i}`, 'spent'))
    expect(issue(...spent).next.issued).toHaveLength(16)
    const tags = ({ issued }: CardState): string[] => issued.map(({ tag }) => tag)
    for (const dead of [open('x', { state: 'superseded' }), open('x', { expiresAt: NOW })]) {
      const { next } = issue(...spent, dead)
      expect(next.issued).toHaveLength(16)
      expect(tags(next)).not.toContain('x')
      expect(tags(next)).toContain('s0')
    }
    const { next } = issue(...spent, claimed('c', 'claimed'))
    expect(tags(next)).not.toContain('s0')
    expect(tags(next)).toContain('c')
    expect(tags(issue(claimed('c', 'claimed'), ...spent).next)).toEqual(
      tags(next).toSpliced(14, 1).toSpliced(0, 0, 'c'),
    )
  })
})

describe('what has expired', () => {
  test('has expired for good, wherever it is among the others', () => {
    const later = open('c', { expiresAt: NOW + 1 })
    for (const [i, due] of [open('x', { expiresAt: NOW }), claimed('x', 'claimed')].entries()) {
      const state = card(claimed('s', 'spent'), later, due)
      const expired = expireStep(state, NOW + i)
      expect(expired?.issued.slice(0, 1)).toEqual(state.issued.slice(0, 1))
      for (const now of [0, NOW])
        expect(() => claimStep(expired ?? state, request('x'), now, POLICY)).toThrow(refused('expired'))
    }
  })

  test('is marked once, and a card that has nothing of the kind is not written', () => {
    expect(expireStep(card(), NOW)).toBeUndefined()
    expect(expireStep(card(open('a'), claimed('b', 'spent')), NOW)).toBeUndefined()
    const once = expireStep(card(open('a')), NOW + 1) ?? expect.unreachable()
    expect(expireStep(once, NOW + 2)).toBeUndefined()
  })
})

test('a request that is fixed is the one that was checked, whatever becomes of its bytes', () => {
  const fingerprint = new Uint8Array(32).fill(7)
  const given = { cardId: 'card-1', intdatag: 'A'.repeat(20), pcc: '0001', fingerprint }
  const fixed = fixedRequest(given)
  const { claim } = readRequest(fixed)
  fingerprint.fill(8)
  expect(readRequest(fixed).claim).toEqual(claim)
  expect(readRequest({ ...given }).claim).not.toEqual(claim)
})

describe('a record', () => {
  test('is read back as it was shown', () => {
    const state = card(stored(), stored({ tag: HASH_2, state: 'spent', fingerprint: HASH, sequence: 3 }))
    expect(readState(showState({ ...state, instance: 'a/1' }))).toEqual({ ...state, instance: 'a/1' })
    expect(readState(showState(state))).toEqual(state)
    expect(readState(showState({ ...state, pcc: null }))).toEqual({ ...state, pcc: null })
  })

  test.each([
    'no JSON',
    'null',
    JSON.stringify({ v: 2, ...card() }),
    JSON.stringify({ ...card() }),
    JSON.stringify({ v: 1, ...card(), pcc: '0007' }),
    JSON.stringify({ v: 1, ...card(), pcc: 0.5 }),
    JSON.stringify({ v: 1, ...card(), sequence: null }),
    JSON.stringify({ v: 1, ...card(), issued: {} }),
    JSON.stringify({ v: 1, ...card(), pcc: -5 }),
    JSON.stringify({ v: 1, ...card(), pcc: 123456 }),
    JSON.stringify({ v: 1, ...card(), sequence: -1 }),
    JSON.stringify({ v: 1, ...card(), sequence: 2 ** 53 }),
    JSON.stringify({ v: 1, ...card(), more: 1 }),
    JSON.stringify({ v: 1, ...card(), instance: 7 }),
    JSON.stringify({ v: 1, ...card(), instance: 'x'.repeat(129) }),
    ...[
      null,
      7,
      [],
      open('a'),
      stored({ pcc: -5 }),
      stored({ pcc: 123456 }),
      stored({ pcc: '0007' as never }),
      stored({ expiresAt: 1.5 }),
      stored({ state: 'free' as never }),
      stored({ state: 'claimed' as never }),
      stored({ state: 'spent', fingerprint: HASH } as never),
      stored({ state: 'spent', fingerprint: HASH, sequence: 0 } as never),
      stored({ state: 'spent', fingerprint: 'AA', sequence: 1 } as never),
      stored({ instance: 1 as never }),
      stored({ more: 1 } as never),
    ].flatMap(entry =>
      [[entry], [stored({ tag: HASH_2 }), entry]].map(issued => JSON.stringify({ v: 1, ...card(), issued })),
    ),
    JSON.stringify({ v: 1, ...card(), issued: [stored(), stored()] }),
  ])('%s does not read', text => {
    const message = 'the record of the change counter does not read'
    expect(() => readState(text)).toThrow(expect.objectContaining({ code: 'ERR_BACKEND_FAILED', message }))
  })

  test('names an intdatag by its SHA-256', () => {
    expect(tagOf('abc')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })
})

describe('an instance of the database', () => {
  const EPOCH = 2 ** 32
  const on = (instance: string, ...issued: Issued[]): CardState => ({ ...card(...issued), instance })

  test('that wrote the record goes on with it as it is', () => {
    for (const state of [card(open('a')), on('x', open('a'))]) {
      expect(enterInstance(state, state.instance)).toBe(state)
    }
  })

  test('that did not begins a new epoch of the sequence, and keeps the count', () => {
    const entered = enterInstance({ ...on('x', open('a')), sequence: 5 }, 'y')
    expect(entered).toMatchObject({ instance: 'y', sequence: EPOCH + 5, pcc: 7 })
    const again = enterInstance(entered, 'x')
    expect(again).toMatchObject({ instance: 'x', sequence: 2 * EPOCH + 5 })
    expect(enterInstance(again, undefined)).toEqual({ pcc: 7, sequence: 3 * EPOCH + 5, issued: [open('a')] })
  })

  test('refuses what another one issued and is open here, whatever came before or after', () => {
    for (const [entry, now] of [
      ['x', 'y'],
      ['x', undefined],
      [undefined, 'y'],
    ] as const) {
      const issued = open('a', entry === undefined ? {} : { instance: entry })
      const state = now === undefined ? card(issued) : on(now, issued)
      expect(() => claimStep(state, request('a'), NOW, POLICY)).toThrow(refused('failover'))
    }
    const own = on('y', open('a', { instance: 'y' }))
    expect(claimStep(own, request('a'), NOW, POLICY)).toMatchObject({ sequence: 2 })
  })

  test('lets the claim of one request through that another one holds: it is the same request', () => {
    const state = on('y', { ...claimed('a', 'claimed', 5), instance: 'x' })
    expect(claimStep(state, request('a'), NOW, POLICY)).toMatchObject({ sequence: 5, replayed: false })
    expect(() => claimStep(state, request('a', { fingerprint: 'BB' }), NOW, POLICY)).toThrow(refused('spent'))
  })

  test('marks what it issues', () => {
    const { next } = issueStep(on('y'), { tag: 'a', expiresAt: NOW + 1, now: NOW }, POLICY)
    expect(next.issued).toEqual([open('a', { instance: 'y' })])
  })

  test('whose epochs are used up leaves the card to an operator', () => {
    const last = { ...on('x'), sequence: Number.MAX_SAFE_INTEGER }
    expect(() => enterInstance(last, 'y')).toThrow(refused('exhausted'))
  })
})

describe('an operator', () => {
  test('supersedes what is open or claimed, in a new epoch, and skips values', () => {
    const before = card(open('a'), claimed('b', 'claimed'), claimed('c', 'spent'))
    const after = supersedeStep(before, 3, POLICY)
    expect(states(after)).toEqual(['a superseded', 'b superseded', 'c spent'])
    expect(after).toMatchObject({ pcc: 10, sequence: 2 ** 32 + 1 })
    expect(supersedeStep({ ...before, pcc: 9998 }, 3, POLICY).pcc).toBeNull()
    expect(supersedeStep({ ...before, pcc: 9998 }, 3, { ...POLICY, wrap: 'wrap-to-0001' }).pcc).toBe(2)
    expect(() => claimStep(after, request('a'), NOW, POLICY)).toThrow(refused('superseded'))
    expect(() => confirmStep(after, request('b'))).toThrow(refused('superseded'))
  })

  test('restarts a card that is exhausted, and no other', () => {
    const exhausted = { ...card(open('a')), pcc: null }
    expect(restartStep(exhausted, 1, POLICY)).toMatchObject({ pcc: 1, sequence: 2 ** 32 + 1 })
    expect(restartStep(card(open('a')), 1, POLICY)).toBeUndefined()
  })
})
