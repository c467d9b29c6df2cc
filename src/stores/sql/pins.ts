/**
 * PINs over any {@link SqlDatabase}. A PIN is written from the row of its card, and only if the card is still as it was
 * found: what was decided on the way, and what the card may do now, are compared in the statement that writes.
 */
import { type CallOptions, requireSignal } from '../../base/arguments.js'
import { concatBytes, ownCopy } from '../../base/bytes.js'
import { systemClock } from '../../base/deadline.js'
import { DEFAULTS } from '../../base/defaults.js'
import type {
  BlockAcceptance,
  BlockRequest,
  CardAsFound,
  CardRef,
  ForgetRequests,
  StoredPinBlock,
  StoredPrw,
} from '../../d1/endpoints/interfaces.js'
import { cardKey, supersedeCard } from '../../seccos/counter/counter.js'
import type { ClaimRecord } from '../../seccos/counter/store.js'
import type {
  BlockCount,
  BlockEntry,
  BlockPage,
  BulkResult,
  CardPinStore,
  ListedBlock,
  Replacement,
} from '../issuer-store.js'
import {
  cardChanged,
  claimEnded,
  inBatches,
  noSuchCard,
  outcomeOf,
  readAsFound,
  readBlockEntry,
  readBlockPage,
  readBlockRequest,
  readClaim,
  readDigest,
  readForgetRequests,
  readPinBlock,
  readPrw,
  readRef,
  readReplacement,
  type Taken,
  tooLate,
} from '../records.js'
import { newMark, valuesOf } from './cards.js'
import { SqlCounterStore } from './counter.js'
import {
  blockOf,
  byCard,
  isAtOnce,
  lockInOrder,
  type OpenDatabase,
  orderByCard,
  prwOf,
  readRow,
  type SqlDatabase,
  type SqlStatement,
  type SqlValue,
  writeRows,
} from './database.js'
import { requestMessage, verifyRequest } from './sealed.js'

/*
 * The revision of a card is the mark of its last change, a block that was stored included; and behind a dot the mark of the
 * last PRW. What is written for a card as it was found is so refused where another PIN came first, but for a PRW after a PRW:
 * of those the sequence decides. A store that hung is thereby late, whatever replica it was on.
 */
const MARK = 16
const BLOCK_MARK = `substr(revision, 1, ${MARK})`
const PRW_MARK = `substr(revision, ${MARK + 2})`

const FORGOTTEN_TOGETHER = 1000

/** The PINs of a database whose tables are there. */
export class SqlPins implements CardPinStore {
  readonly #database: OpenDatabase
  readonly #cards: string
  readonly #pins: string
  readonly #requests: string
  readonly #counters: string

  constructor(database: OpenDatabase) {
    const { prefix } = database.dialect
    this.#database = database
    this.#cards = `${prefix}cards`
    this.#pins = `${prefix}pins`
    this.#requests = `${prefix}requests`
    this.#counters = `${prefix}counters`
  }

  readonly readBlock = async (card: CardRef, options?: CallOptions): Promise<StoredPinBlock | undefined> => {
    const sql = `SELECT block, kid FROM ${this.#pins} WHERE issuer_id = $1 AND card_id = $2 AND block IS NOT NULL`
    const ref = readRef(card)
    const statement = { sql, values: valuesOf(ref), card: ref }
    const row = await readRow(this.#database, statement, requireSignal(options))
    return row && blockOf(row)
  }

  readonly readPrw = async (card: CardRef, options?: CallOptions): Promise<StoredPrw | undefined> => {
    const sql = `SELECT prw FROM ${this.#pins} WHERE issuer_id = $1 AND card_id = $2 AND prw IS NOT NULL`
    const ref = readRef(card)
    const statement = { sql, values: valuesOf(ref), card: ref }
    const row = await readRow(this.#database, statement, requireSignal(options))
    return row && prwOf(row)
  }

  readonly storeBlock = async (card: CardAsFound, pin: StoredPinBlock): Promise<void> => {
    const found = readAsFound(card)
    const block = readPinBlock(pin)
    await this.#database.during(async database => {
      const mark = newMark()
      const written = {
        sql: `SELECT 1 FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2 AND revision = $3`,
        values: [...valuesOf(found), mark],
      }
      const [result] = await database.write([
        ...this.#storing(found, block, mark),
        ...this.#stillInTime(found, written),
      ])
      if (result?.count !== 1) throw await this.#whyNot(found, database)
      await supersedeCard(new SqlCounterStore(database, found.issuerId), found.cardId)
    })
  }

  readonly storeBlocks = (
    entries: Iterable<BlockEntry> | AsyncIterable<BlockEntry>,
    options?: CallOptions,
  ): AsyncIterable<BulkResult> => {
    const signal = requireSignal(options)
    return inBatches(entries, signal, readBlockEntry, batch =>
      this.#database.during(database => this.#storeBatch(batch, database)),
    )
  }

  async #storeBatch(
    batch: readonly Taken<BlockEntry>[],
    database: SqlDatabase,
  ): Promise<readonly BulkResult[]> {
    const toStore: Found[] = []
    const outcomes: BulkResult[] = []
    for (const taken of batch) {
      const gather = async ({ card, pin }: BlockEntry): Promise<unknown> =>
        toStore.push({ found: card, block: pin })
      outcomes.push(await outcomeOf(taken, gather))
    }
    const written = await this.#storeAll(toStore, database)
    // First of all: whatever fails later, what is stored has taken the place of every PIN before it.
    await this.#supersede(
      toStore.flatMap(({ found }, i) => (written[i] === true ? found : [])),
      database,
    )
    for (const [i, { card, outcome }] of outcomes.entries()) {
      const found = outcome === 'stored' ? toStore.shift()?.found : undefined
      if (found === undefined || written.shift() === true) continue
      outcomes[i] = { card, outcome: 'refused', error: await this.#whyNot(found, database) }
    }
    return outcomes
  }

  /** Which of them were stored. */
  async #storeAll(list: readonly Found[], database: SqlDatabase): Promise<boolean[]> {
    if (list.length === 0) return []
    const cards = list.map(({ found }) => found)
    if (!isAtOnce(this.#database, cards)) {
      const ordered = byCard(list, ({ found }) => found)
      const results = await database.write(ordered.flatMap(({ found, block }) => this.#storing(found, block)))
      const done = new Set(ordered.filter((_, i) => results[2 * i]?.count === 1))
      return list.map(one => done.has(one))
    }
    const marks = list.map(() => newMark())
    const refs = [cards.map(card => card.issuerId), cards.map(card => card.cardId)] as const
    const marking = {
      sql:
        `UPDATE ${this.#cards} AS c SET revision = n.mark FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), ` +
        'CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[])) AS n (issuer_id, card_id, mark, found, until) ' +
        'WHERE c.issuer_id = n.issuer_id AND c.card_id = n.card_id AND (n.found IS NULL OR c.revision = n.found) ' +
        `AND (n.until IS NULL OR ${database.dialect.now} < n.until) RETURNING c.issuer_id, c.card_id`,
      values: [
        ...refs,
        marks,
        cards.map(({ revision = null }) => revision),
        cards.map(({ notAfter = null }) => notAfter),
      ],
    }
    const storing = {
      sql:
        `INSERT INTO ${this.#pins} (issuer_id, card_id, block, kid, version) ` +
        'SELECT c.issuer_id, c.card_id, n.block, n.kid, n.mark FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), ' +
        'CAST($3 AS text[]), CAST($4 AS bytea[]), CAST($5 AS text[])) AS n (issuer_id, card_id, mark, block, kid) ' +
        `JOIN ${this.#cards} AS c ON c.issuer_id = n.issuer_id AND c.card_id = n.card_id AND c.revision = n.mark ` +
        `${orderByCard('c')} ${BLOCK_TAKES_PLACE}`,
      values: [...refs, marks, list.map(({ block }) => block.block), list.map(({ block }) => block.kid)],
    }
    const [, marked] = await database.write([lockInOrder(database, this.#cards, cards), marking, storing])
    const stored = new Set(marked?.rows.map(row => `${row['issuer_id']}/${row['card_id']}`))
    return cards.map(({ issuerId, cardId }) => stored.has(`${issuerId}/${cardId}`))
  }

  /** Ends the intdatags of those of the cards that have any: two reads for a batch, mostly. */
  async #supersede(cards: readonly CardRef[], database: SqlDatabase): Promise<void> {
    for (const issuerId of new Set(cards.map(card => card.issuerId))) {
      const store = new SqlCounterStore(database, issuerId)
      const ids = cards.filter(card => card.issuerId === issuerId).map(({ cardId }) => cardId)
      const known = await store.present(ids.map(cardKey))
      for (const cardId of ids) if (known.has(cardKey(cardId))) await supersedeCard(store, cardId)
    }
  }

  readonly acceptBlock = async (
    card: CardAsFound,
    pin: StoredPinBlock,
    request: BlockRequest,
  ): Promise<BlockAcceptance> => {
    const found = readAsFound(card)
    const [block, read] = [readPinBlock(pin), readBlockRequest(request)]
    return this.#database.during(database => this.#accept({ found, block, ...read }, database))
  }

  async #accept(
    { found, block, digest, jweKid, acceptedAt }: Acceptance,
    database: SqlDatabase,
  ): Promise<BlockAcceptance> {
    const { blob } = this.#database.dialect
    const mark = newMark()
    const { issuerId: issuer_id, cardId: card_id } = found
    const record = { digest, issuer_id, card_id, jwe_kid: jweKid, accepted_at: acceptedAt, mark }
    const seal = (await database.sealer?.seal(requestMessage(record))) ?? null
    if (await this.#acceptAtOnce({ found, block, digest, jweKid, acceptedAt }, mark, database))
      return { outcome: 'stored' }
    const values: SqlValue[] = [...valuesOf(found), digest, jweKid, acceptedAt, mark, seal]
    const remember = {
      sql:
        `INSERT INTO ${this.#requests} (issuer_id, card_id, digest, jwe_kid, accepted_at, mark, seal) ` +
        `SELECT issuer_id, card_id, CAST($3 AS ${blob}), CAST($4 AS text), CAST($5 AS bigint), CAST($6 AS text), ` +
        `CAST($7 AS ${blob}) ` +
        `${this.#fromCard(found, values)} ON CONFLICT (digest) DO NOTHING`,
      values,
      card: found,
    }
    // A request that is repeated is written, too: what this answers is then as durable as what was answered first. Whoever has
    // it stored already may have changed the card by that: it need not be as it was found.
    const again = {
      sql:
        `UPDATE ${this.#requests} SET repeats = repeats + 1 WHERE digest = $1 AND mark <> $4 ` +
        `AND EXISTS (SELECT 1 FROM ${this.#cards} WHERE issuer_id = $2 AND card_id = $3)`,
      values: [digest, ...valuesOf(found), mark],
    }
    const store = this.#upsert({
      columns: `block, kid, request`,
      select: `CAST($3 AS ${blob}), CAST($4 AS text), digest`,
      from: `FROM ${this.#requests} WHERE issuer_id = $1 AND card_id = $2 AND digest = $5 AND mark = $6`,
      values: [...valuesOf(found), block.block, block.kid, digest, mark],
      card: found,
    })
    const outcome = {
      sql:
        'SELECT r.digest, r.issuer_id, r.card_id, r.jwe_kid, r.accepted_at, r.mark, r.seal, p.request AS request ' +
        `FROM ${this.#requests} AS r ` +
        `LEFT JOIN ${this.#pins} AS p ON p.issuer_id = $1 AND p.card_id = $2 AND p.request = r.digest ` +
        'WHERE r.digest = $3',
      values: [...valuesOf(found), digest],
    }
    const marking = {
      sql:
        `UPDATE ${this.#cards} SET revision = $3 WHERE issuer_id = $1 AND card_id = $2 ` +
        `AND EXISTS (SELECT 1 FROM ${this.#requests} WHERE digest = $4 AND mark = $5)`,
      values: [...valuesOf(found), newMark(), digest, mark],
      card: found,
    }
    const [remembered, repeated, , , answer] = await database.write([
      remember,
      again,
      store,
      marking,
      outcome,
      ...this.#stillInTime(found, {
        sql: `SELECT 1 FROM ${this.#requests} WHERE digest = $1 AND mark = $2`,
        values: [digest, mark],
      }),
    ])
    const row = answer?.rows[0]
    const isKnown = remembered?.count === 1 || repeated?.count === 1
    if (!isKnown || row === undefined) throw await this.#whyNot(found, database)
    if (row['mark'] === mark) return { outcome: 'stored' }
    if (database.sealer !== undefined) await verifyRequest(database.sealer, row)
    if (row['issuer_id'] !== found.issuerId || row['card_id'] !== found.cardId)
      return { outcome: 'misdirected' }
    return { outcome: 'replayed', current: row['request'] !== null }
  }

  /**
   * What nearly all requests come to, in one statement: a message that is new, for a card that is as it was found. False: nothing
   * was written, and the steps one by one say why. It asks for the time again when it has waited for its locks, and undoes itself
   * where that is over.
   */
  async #acceptAtOnce(
    { found, block: { block, kid }, digest, jweKid, acceptedAt }: Acceptance,
    mark: string,
    database: SqlDatabase,
  ): Promise<boolean> {
    const { dialect, sealer } = database
    if (!dialect.nested || sealer !== undefined) return false
    const values: SqlValue[] = [...valuesOf(found), digest, jweKid, acceptedAt, mark]
    const card = this.#fromCard(found, values)
    const place = (type: string, value: SqlValue): string => `CAST($${values.push(value)} AS ${type})`
    const isInTime = `TRUE${this.#inTime(found, values)}`
    const sql =
      `WITH card AS (SELECT issuer_id, card_id ${card}), remembered AS (` +
      `INSERT INTO ${this.#requests} (issuer_id, card_id, digest, jwe_kid, accepted_at, mark) ` +
      `SELECT issuer_id, card_id, CAST($3 AS ${dialect.blob}), CAST($4 AS text), CAST($5 AS bigint), CAST($6 AS text) ` +
      'FROM card ON CONFLICT (digest) DO NOTHING RETURNING issuer_id, card_id, digest), stored AS (' +
      `INSERT INTO ${this.#pins} (issuer_id, card_id, block, kid, request, version) ` +
      `SELECT issuer_id, card_id, ${place(dialect.blob, block)}, ${place('text', kid)}, digest, ${place('text', newMark())} ` +
      `FROM remembered ${BLOCK_TAKES_PLACE} RETURNING 1), marked AS (` +
      `UPDATE ${this.#cards} AS c SET revision = ${place('text', newMark())} FROM remembered AS r ` +
      'WHERE c.issuer_id = r.issuer_id AND c.card_id = r.card_id RETURNING 1) ' +
      `SELECT CASE WHEN count(*) = 0 THEN 0 ELSE 1 / CAST(${isInTime} AS integer) END AS stored FROM stored CROSS JOIN marked`
    const [result] = await database.write([{ sql, values, card: found }])
    return result?.rows[0]?.['stored'] === 1
  }

  readonly knowsRequest = async (digest: Uint8Array, options?: CallOptions): Promise<boolean> => {
    const sql =
      'SELECT digest, issuer_id, card_id, jwe_kid, accepted_at, mark, seal ' +
      `FROM ${this.#requests} WHERE digest = $1`
    const statement = { sql, values: [readDigest(digest)] }
    const row = await readRow(this.#database, statement, requireSignal(options))
    if (row === undefined) return false
    if (this.#database.sealer !== undefined) await verifyRequest(this.#database.sealer, row)
    return true
  }

  /**
   * In batches, in the order of the primary key: one statement for all of a key that has gone would never get through the
   * time of a statement, and stop SQLite's writer for as long. What is left after a minute is for the next time.
   */
  readonly forgetRequests = async (which: ForgetRequests): Promise<number> => {
    const { issuerIds, jweKids, acceptedBefore } = readForgetRequests(which)
    if (issuerIds.length === 0) return 0
    const end = systemClock.elapsed() + DEFAULTS.stores.purgeBudgetMs.value
    const values: SqlValue[] = []
    const places = (texts: readonly string[]): string => texts.map(text => `$${values.push(text)}`).join(', ')
    const issuers = `issuer_id IN (${places(issuerIds)})`
    const due = [`jwe_kid NOT IN (${places(jweKids)})`]
    if (acceptedBefore !== undefined) due.push(`accepted_at < $${values.push(acceptedBefore)}`)
    const of = `FROM ${this.#requests} WHERE ${issuers} AND (${due.join(' OR ')}) AND digest > $${values.length + 1}`
    const page = `SELECT digest ${of} ORDER BY digest LIMIT ${FORGOTTEN_TOGETHER}`
    let forgotten = 0
    let after = concatBytes()
    for (;;) {
      const rows = await this.#database.read({ sql: page, values: [...values, after] })
      const last = rows.at(-1)?.['digest']
      if (!(last instanceof Uint8Array)) return forgotten
      const until = `DELETE ${of} AND digest <= $${values.length + 2}`
      forgotten += await writeRows(this.#database, until, [...values, after, last])
      after = ownCopy(last)
      if (rows.length < FORGOTTEN_TOGETHER || systemClock.elapsed() >= end) return forgotten
    }
  }

  readonly storePrw = async (card: CardAsFound, given: StoredPrw, ends?: ClaimRecord): Promise<void> => {
    const found = readAsFound(card)
    const prw = readPrw(given)
    const claim = readClaim(ends)
    const mark = newMark()
    if (claim !== undefined && (await this.#storePrwAtOnce({ found, prw, claim }, mark))) return
    const values: SqlValue[] = [...valuesOf(found), mark]
    const same = this.#sameBlock(found, values)
    const marking = {
      sql:
        `UPDATE ${this.#cards} SET ${PRW_MARKS('$3')} ` +
        `WHERE issuer_id = $1 AND card_id = $2${same}${this.#inTime(found, values)}${this.#isClaimed(found, claim, values)}`,
      values,
      card: found,
      expect: 1,
    }
    const sql =
      `INSERT INTO ${this.#pins} AS known (issuer_id, card_id, prw, sequence, version) ` +
      'SELECT issuer_id, card_id, CAST($3 AS text), CAST($4 AS bigint), CAST($5 AS text) ' +
      `FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2 AND ${PRW_MARK} = $5 ${PRW_TAKES_PLACE}`
    const results = await this.#database.write([
      ...this.#spending(found, claim),
      marking,
      { sql, values: [...valuesOf(found), JSON.stringify(prw), prw.sequence, mark], card: found },
      ...this.#stillInTime(found),
    ])
    if (results.at(-1)?.unexpected === true)
      throw await this.#whyNot(found, this.#database, blockMarkOf, claim)
  }

  /**
   * What nearly all requests come to, in one statement, as in {@link #acceptAtOnce}: a claim that is open, for a card that is as it
   * was found. False: nothing was written. Whoever changes the card between the first look at it and its lock undoes all of it.
   */
  async #storePrwAtOnce({ found, prw, claim }: PrwToStore, mark: string): Promise<boolean> {
    const { dialect, sealer } = this.#database
    if (!dialect.nested || sealer !== undefined) return false
    const values: SqlValue[] = [...valuesOf(found), mark, claim.key, claim.claimed, claim.spent]
    const isAsFound = `issuer_id = $1 AND card_id = $2${this.#sameBlock(found, values)}${this.#inTime(found, values)}`
    const isInTime = `TRUE${this.#inTime(found, values)}`
    const place = (type: string, value: SqlValue): string => `CAST($${values.push(value)} AS ${type})`
    const sql =
      `WITH spent AS (UPDATE ${this.#counters} SET version = version + 1, value = replace(value, $5, $6) ` +
      "WHERE issuer_id = $1 AND key = $4 AND replace(value, $5, '') <> value " +
      `AND EXISTS (SELECT 1 FROM ${this.#cards} WHERE ${isAsFound}) RETURNING 1), marked AS (` +
      `UPDATE ${this.#cards} SET ${PRW_MARKS('$3')} WHERE ${isAsFound} AND EXISTS (SELECT 1 FROM spent) ` +
      'RETURNING issuer_id, card_id), stored AS (' +
      `INSERT INTO ${this.#pins} AS known (issuer_id, card_id, prw, sequence, version) ` +
      `SELECT issuer_id, card_id, ${place('text', JSON.stringify(prw))}, ${place('bigint', prw.sequence)}, CAST($3 AS text) ` +
      `FROM marked ${PRW_TAKES_PLACE} RETURNING card_id) ` +
      'SELECT CASE WHEN count(*) = 0 THEN 0 ELSE ' +
      `1 / CAST(count(marked.card_id) = 1 AND count(stored.card_id) < 2 AND ${isInTime} AS integer) END AS stored ` +
      'FROM spent LEFT JOIN marked ON TRUE LEFT JOIN stored ON TRUE'
    const [result] = await this.#database.write([{ sql, values, card: found }])
    return result?.rows[0]?.['stored'] === 1
  }

  /** A condition on a card: no other block. A PRW that was stored meanwhile is no hindrance: the sequence says which is newer. */
  #sameBlock({ revision }: CardAsFound, values: SqlValue[]): string {
    return revision === undefined ? '' : ` AND ${BLOCK_MARK} = substr($${values.push(revision)}, 1, ${MARK})`
  }

  /**
   * Confirms the claim in the transaction that stores its PRW, which also locks the card's counter: what the counter says of
   * the claim and what is stored is then never two things.
   */
  #spending(found: CardAsFound, claim: ClaimRecord | undefined): readonly SqlStatement[] {
    if (claim === undefined) return []
    const sql =
      `UPDATE ${this.#counters} SET version = version + 1, value = replace(value, $3, $4) ` +
      `WHERE issuer_id = $1 AND key = $2 AND replace(value, $3, '') <> value`
    return [{ sql, values: [found.issuerId, claim.key, claim.claimed, claim.spent], card: found }]
  }

  /** A counter that is kept elsewhere has no record here; one that is kept here and has none has lost it in a failover. */
  #isClaimed({ issuerId }: CardAsFound, claim: ClaimRecord | undefined, values: SqlValue[]): string {
    if (claim === undefined) return ''
    const key = `$${values.push(claim.key)}`
    const spent = `$${values.push(claim.spent)}`
    const record = `SELECT 1 FROM ${this.#counters} AS c WHERE c.issuer_id = $1 AND c.key = ${key}`
    const isSpent = `EXISTS (${record} AND replace(c.value, ${spent}, '') <> c.value)`
    const isKeptHere = SqlCounterStore.isIn(claim.keptBy, this.#database, issuerId)
    return isKeptHere ? ` AND ${isSpent}` : ` AND (NOT EXISTS (${record}) OR ${isSpent})`
  }

  readonly listBlocks = async (page: BlockPage, options?: CallOptions): Promise<readonly ListedBlock[]> => {
    const { kid, after, limit } = readBlockPage(page)
    const rows = await this.#database.read(
      {
        sql:
          `SELECT issuer_id, card_id, block, kid, version FROM ${this.#pins} ` +
          'WHERE kid = $1 AND (issuer_id, card_id) > ($2, $3) ORDER BY kid, issuer_id, card_id LIMIT $4',
        values: [kid, after?.issuerId ?? '', after?.cardId ?? '', limit],
      },
      requireSignal(options),
    )
    return rows.map(row => ({
      ...blockOf(row),
      card: { issuerId: String(row['issuer_id']), cardId: String(row['card_id']) },
      version: String(row['version']),
    }))
  }

  readonly countBlocks = async (options?: CallOptions): Promise<readonly BlockCount[]> => {
    const sql = `SELECT kid, COUNT(*) AS blocks FROM ${this.#pins} WHERE kid IS NOT NULL GROUP BY kid ORDER BY kid`
    const rows = await this.#database.read({ sql, values: [] }, requireSignal(options))
    return rows.map(({ kid, blocks }) => ({ kid: String(kid), blocks: Number(blocks) }))
  }

  readonly replaceBlocks = async (list: readonly Replacement[]): Promise<readonly boolean[]> => {
    const read = list.map(readReplacement)
    if (read.length === 0) return []
    const cards = read.map(({ card }) => card)
    if (isAtOnce(this.#database, cards)) return this.#replaceAtOnce(read)
    const ordered = byCard(read, ({ card }) => card)
    const statements = ordered.map(({ card, pin: { block, kid }, version }) => ({
      // What the request is remembered by stays: the PIN is the same.
      sql:
        `UPDATE ${this.#pins} SET block = $3, kid = $4, version = $5 ` +
        'WHERE issuer_id = $1 AND card_id = $2 AND version = $6 AND block IS NOT NULL',
      values: [...valuesOf(card), block, kid, newMark(), version],
      card,
    }))
    const results = await this.#database.write(statements)
    const done = new Set(ordered.filter((_, i) => results[i]?.count === 1))
    return read.map(one => done.has(one))
  }

  /** The same in one statement: each of many would wait for its own answer of the server. */
  async #replaceAtOnce(list: readonly Replacement[]): Promise<readonly boolean[]> {
    const sql =
      `UPDATE ${this.#pins} AS p SET block = n.block, kid = n.kid, version = n.version FROM unnest(CAST($1 AS text[]), ` +
      'CAST($2 AS text[]), CAST($3 AS bytea[]), CAST($4 AS text[]), CAST($5 AS text[]), CAST($6 AS text[])) ' +
      'AS n (issuer_id, card_id, block, kid, version, old) WHERE p.issuer_id = n.issuer_id AND p.card_id = n.card_id ' +
      'AND p.version = n.old AND p.block IS NOT NULL RETURNING p.issuer_id, p.card_id'
    const values = [
      list.map(({ card }) => card.issuerId),
      list.map(({ card }) => card.cardId),
      list.map(({ pin }) => pin.block),
      list.map(({ pin }) => pin.kid),
      list.map(() => newMark()),
      list.map(({ version }) => version),
    ]
    const locking = lockInOrder(
      this.#database,
      this.#pins,
      list.map(({ card }) => card),
    )
    const [, result] = await this.#database.write([locking, { sql, values }])
    const replaced = new Set(result?.rows.map(row => `${row['issuer_id']}/${row['card_id']}`))
    return list.map(({ card }) => replaced.has(`${card.issuerId}/${card.cardId}`))
  }

  /** The card is marked as changed, which locks it; then its block is written. What was under way for it before is late. */
  #storing(
    found: CardAsFound,
    { block, kid }: StoredPinBlock,
    mark: string = newMark(),
  ): readonly SqlStatement[] {
    const values: SqlValue[] = [...valuesOf(found), mark]
    const same = found.revision === undefined ? '' : ` AND revision = $${values.push(found.revision)}`
    const until = this.#inTime(found, values)
    const sql = `UPDATE ${this.#cards} SET revision = $3 WHERE issuer_id = $1 AND card_id = $2${same}${until}`
    const store = this.#upsert({
      columns: 'block, kid',
      select: `CAST($3 AS ${this.#database.dialect.blob}), CAST($4 AS text)`,
      from: `FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2 AND revision = $5`,
      values: [...valuesOf(found), block, kid, mark],
      card: found,
    })
    return [{ sql, values, card: found }, store]
  }

  /** A block over whatever was there. The sequence stays: a PRW that comes late is older than this block. */
  #upsert({ columns, select, from, values, card }: Upsert): SqlStatement {
    const version = `CAST($${values.length + 1} AS text)`
    return {
      sql:
        `INSERT INTO ${this.#pins} (issuer_id, card_id, ${columns}, version) ` +
        `SELECT issuer_id, card_id, ${select}, ${version} ${from} ${BLOCK_TAKES_PLACE}`,
      values: [...values, newMark()],
      card,
    }
  }

  /** The card's row, if it is still as it was found; it is locked, and stays so until the PIN is written. */
  #fromCard(found: CardAsFound, values: SqlValue[]): string {
    const { revision } = found
    const same = revision === undefined ? '' : ` AND revision = $${values.push(revision)}`
    const until = this.#inTime(found, values)
    return `FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2${same}${until}${this.#database.dialect.locked}`
  }

  /** A condition: the answer has not gone out yet, by the clock that said when the card was found. */
  #inTime({ notAfter }: CardAsFound, values: SqlValue[]): string {
    return notAfter === undefined ? '' : ` AND ${this.#database.dialect.now} < $${values.push(notAfter)}`
  }

  /**
   * Behind what was written: fails, and all of it is undone, where the answer has gone out while it waited for its locks. Nothing
   * where one writer comes after the other, who has his turn before he asks for the time. `written`: whether anything was.
   */
  #stillInTime(found: CardAsFound, written?: SqlStatement): readonly SqlStatement[] {
    if (found.notAfter === undefined || !this.#database.dialect.nested) return []
    const values: SqlValue[] = [...(written?.values ?? [])]
    const isInTime = `1 / CAST(TRUE${this.#inTime(found, values)} AS integer)`
    const sql = written === undefined ? isInTime : `CASE WHEN EXISTS (${written.sql}) THEN ${isInTime} END`
    return [{ sql: `SELECT ${sql} AS in_time`, values }]
  }

  /** Why nothing was written. `part`: what of the revision had to be the same. */
  async #whyNot(
    { notAfter, ...found }: CardAsFound,
    database: SqlDatabase,
    part = (revision: unknown) => revision,
    claim?: ClaimRecord,
  ): Promise<Error> {
    const { now } = database.dialect
    const sql = `SELECT revision, ${now} AS now FROM ${this.#cards} WHERE issuer_id = $1 AND card_id = $2`
    const row = await readRow(database, { sql, values: valuesOf(found) })
    if (row === undefined) return noSuchCard()
    const isSame = found.revision === undefined || part(row['revision']) === part(found.revision)
    if (isSame && notAfter !== undefined && Number(row['now']) >= notAfter) return tooLate()
    return isSame && claim !== undefined ? claimEnded() : cardChanged()
  }
}

/** What a PRW needs to be the same: of two PRWs the sequence decides. */
const blockMarkOf = (revision: unknown): unknown => String(revision).slice(0, MARK)

/** Marks a card as changed by a PRW. */
const PRW_MARKS = (mark: string): string => `revision = ${BLOCK_MARK} || '.' || CAST(${mark} AS text)`

/** A PRW that takes the place of an older PIN. */
const PRW_TAKES_PLACE =
  'ON CONFLICT (issuer_id, card_id) DO UPDATE SET block = NULL, kid = NULL, request = NULL, prw = excluded.prw, ' +
  'sequence = excluded.sequence, version = excluded.version WHERE known.sequence < excluded.sequence ' +
  // The same PRW again: D1 repeats a request. Once a block has taken its place, it is an older PIN.
  'OR (known.sequence = excluded.sequence AND known.prw IS NOT NULL)'

/** A block that takes the place of whatever was there. */
const BLOCK_TAKES_PLACE =
  'ON CONFLICT (issuer_id, card_id) DO UPDATE SET block = excluded.block, kid = excluded.kid, ' +
  'request = excluded.request, prw = NULL, version = excluded.version'

interface Found {
  readonly found: CardAsFound
  readonly block: StoredPinBlock
}

/** A block that came with a Set PIN request. */
interface Acceptance extends BlockRequest {
  readonly found: CardAsFound
  readonly block: StoredPinBlock
}

/** A PRW, and the claim that ends with it. */
interface PrwToStore {
  readonly found: CardAsFound
  readonly prw: StoredPrw
  readonly claim: ClaimRecord
}

interface Upsert {
  readonly columns: string
  readonly select: string
  readonly from: string
  readonly values: readonly SqlValue[]
  readonly card: CardRef
}
