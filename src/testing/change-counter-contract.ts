/**
 * The contract of a {@link ChangeCounterStore} as executable cases, for any test runner: each is a name and an async
 * function that throws (from `node:assert`) where the store breaks it. Durability shows in no such case: kill the
 * process between writes and look.
 */
import assert from 'node:assert/strict'
import type { ChangeCounterStore } from '../seccos/counter/store.js'

/** How the suite reaches the store under test. */
export interface StoreHarness {
  /** Two handles on one storage that is fresh and empty; the same object twice where there can be only one. */
  open(): Promise<readonly [ChangeCounterStore, ChangeCounterStore]>
}

/** One rule of the contract. */
export interface StoreContractCase {
  readonly name: string
  /** Resolves where the rule holds; rejects with node:assert's error where it does not. */
  run(): Promise<void>
}

type Check = (one: ChangeCounterStore, other: ChangeCounterStore) => Promise<void>

const VALUE = JSON.stringify({ text: 'ä "quoted" \\ \u2028 \u{1F511}', nothing: null })
const RACERS = 16

const CHECKS: Readonly<Record<string, Check>> = {
  'a key that was never written reads as undefined': async one => {
    assert.equal(await one.read('card/none'), undefined)
  },

  'what was created is read back as it was, through either handle': async (one, other) => {
    assert.equal(await one.compareAndSet('card/a', undefined, VALUE), true)
    assert.equal((await one.read('card/a'))?.value, VALUE)
    assert.equal((await other.read('card/a'))?.value, VALUE)
  },

  'an empty text and 8 KiB are values': async one => {
    for (const [key, value] of [
      ['card/empty', ''],
      ['card/long', '\u00e4'.repeat(4096)],
    ] as const) {
      assert.equal(await one.compareAndSet(key, undefined, value), true)
      assert.equal((await one.read(key))?.value, value)
    }
  },

  'creating what is there is refused and changes nothing': async (one, other) => {
    await create(one, 'card/a', 'first')
    const before = await one.read('card/a')
    assert.equal(await other.compareAndSet('card/a', undefined, 'second'), false)
    assert.deepEqual(await one.read('card/a'), before)
  },

  'several records are written together, or none of them': async (one, other) => {
    if (one.compareAndSetAll === undefined || other.compareAndSetAll === undefined) return
    const created = { expected: undefined, value: 'first' }
    const both = ['tag/a', 'card/a'].map(key => ({ ...created, key }))
    assert.equal(await one.compareAndSetAll(both), true)
    assert.equal(await other.compareAndSetAll(both), false)
    const version = await versionOf(other, 'card/a', 'first')
    const replaced = { key: 'card/a', expected: version, value: 'second' }
    assert.equal(await other.compareAndSetAll([{ ...created, key: 'tag/b' }, replaced]), true)
    assert.equal((await present(one, 'card/a')).value, 'second')
    // One that fails, first or last, takes the others along: what would be created, and what would be replaced.
    const late = { ...replaced, value: 'late' }
    const inTime = { ...late, expected: await versionOf(one, 'card/a', 'second') }
    const [absent, there] = ['tag/c', 'tag/b'].map(key => ({ ...created, key }))
    assert.ok(absent !== undefined && there !== undefined)
    for (const writes of [
      [absent, late],
      [late, absent],
      [absent, there],
      [there, inTime],
      [inTime, there],
    ]) {
      assert.equal(await one.compareAndSetAll(writes), false)
      assert.equal(await one.read('tag/c'), undefined)
      assert.equal((await present(one, 'card/a')).value, 'second')
    }
    const racing = await Promise.all(
      Array.from({ length: RACERS }, async (_, i) => {
        const { version } = await present(one, 'card/a')
        const store = i % 2 === 0 ? one : other
        return store.compareAndSetAll?.([
          { ...created, key: `tag/racer-${i}` },
          { key: 'card/a', expected: version, value: `racer-${i}` },
        ])
      }),
    )
    const { value } = await present(other, 'card/a')
    const winners = racing.flatMap((won, i) => (won ? [`racer-${i}`] : []))
    assert.ok(winners.includes(value))
    const tags = await one.keys({ prefix: 'tag/racer', limit: RACERS })
    assert.deepEqual(tags, winners.map(winner => `tag/${winner}`).sort())
  },

  'replacing what is not there is refused': async one => {
    await create(one, 'card/a', 'first')
    const version = await versionOf(one, 'card/a', 'first')
    assert.equal(await one.compareAndSet('card/b', version, 'second'), false)
    assert.equal(await one.read('card/b'), undefined)
  },

  'a version is good for one write': async (one, other) => {
    await create(one, 'card/a', 'first')
    const version = await versionOf(one, 'card/a', 'first')
    assert.equal(await other.compareAndSet('card/a', version, 'second'), true)
    assert.equal(await one.compareAndSet('card/a', version, 'third'), false)
    assert.equal((await one.read('card/a'))?.value, 'second')
  },

  'writing the same value again makes a new version': async one => {
    await create(one, 'card/a', 'same')
    const seen = new Set<string>()
    for (let i = 0; i < 20; i++) {
      const version = await versionOf(one, 'card/a', 'same')
      assert.ok(!seen.has(version), 'a version came back')
      seen.add(version)
      assert.equal(await one.compareAndSet('card/a', version, 'same'), true)
    }
  },

  'a version that never was is refused': async one => {
    await create(one, 'card/a', 'first')
    const right = await versionOf(one, 'card/a', 'first')
    const strange = ['', '0', 'x', '-1', '99999999999999999999', '1 OR 1=1']
    for (const version of strange.filter(candidate => candidate !== right)) {
      assert.equal(await one.compareAndSet('card/a', version, 'second'), false, `version ${version}`)
    }
    assert.equal((await one.read('card/a'))?.value, 'first')
  },

  'keys are apart, case and all': async one => {
    for (const key of ['card/a', 'card/A', 'card/a_', 'card/a-', 'tag/a']) {
      assert.equal(await one.compareAndSet(key, undefined, key), true, key)
    }
    for (const key of ['card/a', 'card/A', 'card/a_', 'card/a-', 'tag/a']) {
      assert.equal((await one.read(key))?.value, key)
    }
  },

  'of many that create at once, one does': async (one, other) => {
    const wins = await Promise.all(
      Array.from({ length: RACERS }, (_, i) =>
        (i % 2 === 0 ? one : other).compareAndSet('card/a', undefined, `value ${i}`),
      ),
    )
    assert.equal(wins.filter(Boolean).length, 1)
    assert.equal((await one.read('card/a'))?.value, `value ${wins.indexOf(true)}`)
  },

  'of many that replace one version at once, one does, and no count is lost': async (one, other) => {
    await create(one, 'card/a', '0')
    await Promise.all(
      Array.from({ length: RACERS }, async (_, i) => {
        const store = i % 2 === 0 ? one : other
        for (;;) {
          const { value, version } = await present(store, 'card/a')
          if (await store.compareAndSet('card/a', version, String(Number(value) + 1))) return
        }
      }),
    )
    assert.equal((await one.read('card/a'))?.value, String(RACERS))
  },

  'keys of 80 characters are kept whole': async (one, other) => {
    const keys = ['a', 'b'].map(last => `card/${'x'.repeat(74)}${last}`)
    for (const key of keys) assert.equal(await one.compareAndSet(key, undefined, key), true)
    for (const key of keys) assert.equal((await other.read(key))?.value, key)
  },

  'a write without expiry clears an old one': async one => {
    await create(one, 'card/a', 'x', { expiresAt: 1 })
    const version = await versionOf(one, 'card/a', 'x')
    assert.equal(await one.compareAndSet('card/a', version, 'y'), true)
    assert.equal(await one.purge(1000), 0)
    assert.equal((await one.read('card/a'))?.value, 'y')
  },

  'a write for another instance of the database is refused, and changes nothing': async (one, other) => {
    const options = { instance: 'another/1' }
    assert.equal(await one.compareAndSet('card/a', undefined, 'x', options), false)
    assert.equal(await one.read('card/a'), undefined)
    // Nor is what was to be written with it.
    const both = ['card/a', 'card/b'].map(key => ({ key, expected: undefined, value: 'x' }))
    for (const at of [0, 1]) {
      const writes = both.map((write, i) => (i === at ? { ...write, ...options } : write))
      assert.notEqual(await one.compareAndSetAll?.(writes), true)
      for (const { key } of writes) assert.equal(await other.read(key), undefined)
    }
    const now = await one.instance?.()
    const mine = now === undefined ? {} : { instance: now }
    assert.equal(await one.compareAndSet('card/a', undefined, 'x', mine), true)
    const record = await other.read('card/a')
    assert.equal(record?.value, 'x')
    assert.equal(record.instance, now, 'a record names the instance that gave it')
    assert.equal(await other.compareAndSet('card/a', record.version, 'y', options), false)
    assert.equal(await other.compareAndSet('card/a', record.version, 'z', mine), true)
    assert.equal((await one.read('card/a'))?.value, 'z')
  },

  'keys are listed in pages, byte by byte, by their beginning': async (one, other) => {
    for (const key of ['card/b', 'card/B', 'card/a', 'card_x', 'card/%', 'tag/a', 'card/ab']) {
      assert.equal(await one.compareAndSet(key, undefined, 'x'), true)
    }
    const prefix = 'card/'
    assert.deepEqual(await other.keys({ prefix, limit: 3 }), ['card/%', 'card/B', 'card/a'])
    assert.deepEqual(await other.keys({ prefix, after: 'card/a', limit: 3 }), ['card/ab', 'card/b'])
    assert.deepEqual(await other.keys({ prefix: 'none/', limit: 3 }), [])
  },

  'purge with a limit deletes no more than that': async (one, other) => {
    for (let i = 0; i < 5; i++) await create(one, `tag/${i}`, 'x', { expiresAt: 10 })
    assert.equal(await other.purge(10, { limit: 2 }), 2)
    assert.equal((await one.keys({ prefix: 'tag/', limit: 9 })).length, 3)
    assert.equal(await other.purge(10, { limit: 9 }), 3)
  },

  'purge deletes what has expired, and only that': async (one, other) => {
    await create(one, 'tag/old', 'x', { expiresAt: 999 })
    await create(one, 'tag/now', 'x', { expiresAt: 1000 })
    await create(one, 'tag/later', 'x', { expiresAt: 1001 })
    await create(one, 'card/a', 'x')
    assert.equal(await other.purge(1000), 2)
    assert.equal(await other.purge(1000), 0)
    assert.equal(await one.read('tag/old'), undefined)
    assert.equal(await one.read('tag/now'), undefined)
    assert.equal((await one.read('tag/later'))?.value, 'x')
    assert.equal((await one.read('card/a'))?.value, 'x')
    assert.equal(await one.compareAndSet('tag/old', undefined, 'new'), true)
  },
}

/**
 * The whole contract for one kind of store. Cases may run in any order; each opens a storage of its own. A case that
 * fails throws node:assert's error.
 *
 * @example
 * ```ts
 * const cases = changeCounterStoreContract({ open: async () => [await connect('a'), await connect('a')] })
 * for (const { name, run } of cases) test(name, run)
 * ```
 */
export function changeCounterStoreContract(harness: StoreHarness): readonly StoreContractCase[] {
  return Object.entries(CHECKS).map(([name, check]) => ({
    name,
    run: async () => {
      const [one, other] = await harness.open()
      await check(one, other)
    },
  }))
}

async function create(
  store: ChangeCounterStore,
  key: string,
  value: string,
  options?: { readonly expiresAt: number },
): Promise<void> {
  assert.equal(await store.compareAndSet(key, undefined, value, options), true, `${key} was not there`)
}

/** The version of a record that is there with this value. */
async function versionOf(store: ChangeCounterStore, key: string, value: string): Promise<string> {
  const record = await present(store, key)
  assert.equal(record.value, value)
  return record.version
}

async function present(store: ChangeCounterStore, key: string): Promise<{ value: string; version: string }> {
  const record = await store.read(key)
  assert.ok(record !== undefined, `${key} is gone`)
  return record
}
