/** Stores that keep cards wrongly, in one thing each, by the rule that says so. */

import { AbortedError, BackendError } from '../../../src/base/errors.js'
import type { Card, CardRef, StoredPinBlock, StoredPrw } from '../../../src/d1/endpoints/interfaces.js'
import { Pan } from '../../../src/index.js'
import { noSuchCard } from '../../../src/stores/records.js'
import { CARD, OTHER_ISSUER, OTHER_PAN, PLAIN } from '../../../src/testing/store-contract-cards.js'
import { type Faults, inOne, inOther, lenient, type Plant } from '../../support/faulty-store.js'

export const keyOf = ({ issuerId, cardId }: CardRef): string => `${issuerId}/${cardId}`

/** What is found is changed on its way. */
const found =
  (change: (card: Card) => object): Plant =>
  ({ cards }) => ({
    cards: {
      find: async (...call) => {
        const card = await cards.find(...call)
        return card && { ...card, ...change(card) }
      },
    },
  })

/** Fields of a card are changed on their way. */
const foundFields = (change: (value: string | Uint8Array) => unknown): Plant =>
  found(({ seccos }) => {
    if (seccos?.fields === undefined) return {}
    const fields = Object.entries(seccos.fields).map(([id, value]) => [id, change(value)])
    return { seccos: { fields: Object.fromEntries(fields) } }
  })

/** What was found once is found again, whatever became of it. */
const remembering: Plant = ({ cards }) => {
  const seen = new Map<string, Card | undefined>()
  return {
    cards: {
      find: async (card, options) => {
        const known = seen.get(keyOf(card)) ?? (await cards.find(card, options))
        seen.set(keyOf(card), known)
        return known
      },
    },
  }
}

/** One kind of wrong card is taken: nothing happens, and nothing is said. */
const taken =
  (is: (card: { readonly [member: string]: unknown }) => boolean): Plant =>
  ({ cards }) => ({
    cards: { put: async (card, record) => (is(Object(record)) ? undefined : cards.put(card, record)) },
  })

/** PINs that are read where the store has none. */
function keptBeside() {
  const blocks = new Map<string, StoredPinBlock | undefined>()
  const prws = new Map<string, StoredPrw | undefined>()
  const reading: Plant = ({ pins }) => ({
    pins: {
      readBlock: async (card, options) => (await pins.readBlock(card, options)) ?? blocks.get(keyOf(card)),
      readPrw: async (card, options) => (await pins.readPrw(card, options)) ?? prws.get(keyOf(card)),
    },
  })
  return { blocks, prws, reading }
}

/** The rule for each call that names a card. */
const NAMING = [
  ['cards', ['find', 'put', 'setState', 'remove']],
  ['pins', ['readBlock', 'readPrw', 'storeBlock', 'storePrw']],
] as const

/** One kind of wrong identifiers is taken. */
const named =
  (is: (card: { readonly [member: string]: unknown }) => boolean): Plant =>
  ({ cards }) => ({
    cards: { find: async (card, options) => (is(Object(card)) ? undefined : cards.find(card, options)) },
  })

const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null

export const CARD_FAULTS: Faults = {
  'a card that was never put is not found': {
    'until a card is put everybody has one': ({ cards }) => {
      let isEmpty = true
      return {
        cards: {
          put: (...call) => {
            isEmpty = false
            return cards.put(...call)
          },
          find: async (...call) => (await cards.find(...call)) ?? (isEmpty ? PLAIN : undefined),
        },
      }
    },
    'an id is told by its beginning': ({ cards }) => ({
      cards: {
        find: ({ issuerId, cardId }, options) =>
          cards.find({ issuerId, cardId: cardId.startsWith('card-') ? CARD.cardId : cardId }, options),
      },
    }),
    'an id has no case': ({ cards }) => ({
      cards: { find: (card, options) => cards.find({ ...card, cardId: card.cardId.toLowerCase() }, options) },
    }),
    'an issuer sees the cards of another': ({ cards }) => ({
      cards: {
        find: async (card, options) =>
          (await cards.find(card, options)) ?? cards.find({ ...card, issuerId: CARD.issuerId }, options),
      },
    }),
  },

  'a card is found as it was put': {
    'fields become text': foundFields(String),
    'fields of bytes become Buffers': foundFields(value =>
      typeof value === 'string' ? value : Buffer.from(value),
    ),
    'fields lose what is not ASCII': foundFields(value =>
      typeof value === 'string' ? value.replace(/[^\0-\x7f]/gu, '?') : value,
    ),
    'fields end with a NUL': foundFields(value =>
      typeof value === 'string' ? (value.split('\0')[0] ?? '') : value,
    ),
    'nothing is left of fields of no bytes': foundFields(value => (value.length === 0 ? undefined : value)),
    'another card’s PAN is found': found(() => ({ pan: Pan.from('4532015112830366') })),
    'a PAN has no more than 16 digits': found(({ pan }) => ({ pan: Pan.from(pan.reveal().slice(0, 16)) })),
    'there is always a way to set a PIN': found(({ setPinTypes }) => ({
      setPinTypes: setPinTypes.length === 0 ? ['ISO0'] : setPinTypes,
    })),
    'ways to set a PIN come in another order': found(({ setPinTypes }) => ({
      setPinTypes: setPinTypes.toReversed(),
    })),
    'a card without SECCOS gets some': found(({ seccos = {} }) => ({ seccos })),
    'a member is added': found(() => ({ more: 1 })),
    'a card has no revision': found(() => ({ revision: undefined })),
    'a card is found at no time': found(() => ({ foundAt: undefined })),
    'a card of two ways to set a PIN is lost': ({ cards }) => ({
      cards: {
        find: async (...call) => {
          const card = await cards.find(...call)
          return card?.setPinTypes.length === 2 ? undefined : card
        },
      },
    }),
    'a handle goes on finding what it found once': inOne(remembering),
    'another handle goes on finding what it found once': inOther(remembering),
  },

  'what was put is a copy, and so is what is found': {
    'fields are not copied when a card is put': ({ cards }) => {
      let fields: NonNullable<Card['seccos']>['fields']
      return {
        cards: {
          put: async (card, record) => {
            await cards.put(card, record)
            fields = record.seccos?.fields
          },
          find: async (...call) => {
            const card = await cards.find(...call)
            return card && fields && { ...card, seccos: { fields: structuredClone(fields) } }
          },
        },
      }
    },
    'ways to set a PIN are not copied when a card is put': ({ cards }) => {
      let types: Card['setPinTypes'] = []
      return {
        cards: {
          put: async (card, record) => {
            await cards.put(card, record)
            types = record.setPinTypes
          },
          find: async (...call) => {
            const card = await cards.find(...call)
            return card && { ...card, setPinTypes: [...types] }
          },
        },
      }
    },
    'what is found is what is kept': remembering,
  },

  'two issuers may have cards of one id': {
    'cards are told apart by their id alone': ({ cards }) => ({
      cards: {
        find: async (card, options) =>
          (await cards.find(card, options)) && cards.find({ ...card, issuerId: CARD.issuerId }, options),
      },
    }),
    'a card takes the place of another issuer’s': ({ cards }) => ({
      cards: {
        put: async (card, record) => {
          for (const { issuerId } of [CARD, OTHER_ISSUER])
            if (issuerId === card.issuerId || (await cards.find({ ...card, issuerId })))
              await cards.put({ ...card, issuerId }, record)
        },
      },
    }),
    'a PRW takes the place of another issuer’s block': ({ pins }) => ({
      pins: {
        storePrw: async (card, prw, claim) => {
          await pins.storePrw(card, prw, claim)
          await pins.storePrw({ ...card, issuerId: CARD.issuerId }, prw)
        },
      },
    }),
    'a PRW is read of another issuer’s card': ({ pins }) => ({
      pins: {
        readPrw: async (card, options) =>
          (await pins.readPrw(card, options)) ?? pins.readPrw({ ...card, issuerId: OTHER_ISSUER.issuerId }),
      },
    }),
    'a PRW is lost where another issuer’s card has a block': ({ pins }) => ({
      pins: {
        readPrw: async (card, options) =>
          (await pins.readBlock({ ...card, issuerId: CARD.issuerId }))
            ? undefined
            : pins.readPrw(card, options),
      },
    }),
    'a block is read of another issuer’s card': ({ pins }) => ({
      pins: {
        readBlock: async (card, options) =>
          (await pins.readBlock(card, options)) ?? pins.readBlock({ ...card, issuerId: CARD.issuerId }),
      },
    }),
    'a removed card takes those of all issuers along': ({ cards }) => ({
      cards: {
        remove: async card => {
          for (const { issuerId } of [CARD, OTHER_ISSUER]) await cards.remove({ ...card, issuerId })
        },
      },
    }),
    'a removed card takes the PINs of all issuers along': ({ cards }) => ({
      cards: {
        remove: async card => {
          await cards.remove(card)
          const theirs = await cards.find(CARD)
          await cards.remove(CARD)
          if (theirs) await cards.put(CARD, plain(theirs))
        },
      },
    }),
  },

  'the state changes, and nothing else': {
    'fields are lost': ({ cards }) => ({
      cards: {
        setState: async (card, state) => {
          await cards.setState(card, state)
          await cards.put(card, { ...PLAIN, state })
        },
      },
    }),
    'the state stays': ({ cards }) => ({
      cards: {
        setState: async card => void ((await cards.find(card)) ?? (await cards.setState(card, 'active'))),
      },
    }),
    'the PIN is lost': ({ cards }) => ({
      cards: {
        setState: async (card, state) => {
          const was = await cards.find(card)
          await cards.remove(card)
          if (was) await cards.put(card, { ...plain(was), state })
        },
      },
    }),
    'another handle does not see it': inOther(remembering),
  },

  'the state of a card that is not there cannot change': {
    'nothing is said': lenient('cards', 'setState', 'ERR_BACKEND_FAILED'),
    'the card of another issuer does': ({ cards }) => ({
      cards: {
        setState: (card, state) => cards.setState({ ...card, issuerId: OTHER_ISSUER.issuerId }, state),
      },
    }),
    'it is refused, and there is a card from then on': ({ cards }) => ({
      cards: {
        setState: async (card, state) => {
          await cards.put(card, { ...PLAIN, state })
          throw noSuchCard()
        },
      },
    }),
    'it is refused by an error without a code': ({ cards }) => ({
      cards: {
        setState: (...call) =>
          cards.setState(...call).catch(() => {
            throw new Error('no such card')
          }),
      },
    }),
    'it is refused by another code': ({ cards }) => ({
      cards: {
        setState: (...call) =>
          cards.setState(...call).catch(() => {
            throw new BackendError('ERR_BACKEND_BUSY', 'no such card')
          }),
      },
    }),
  },

  'a card that is put again keeps its PIN': {
    'it has none': ({ cards }) => ({
      cards: {
        put: async (card, record) => {
          await cards.remove(card)
          await cards.put(card, record)
        },
      },
    }),
  },

  'a removed card takes its PIN with it': {
    'the card stays': ({ cards }) => ({
      cards: {
        remove: async card => {
          await cards.remove(card)
          await cards.put(card, PLAIN)
        },
      },
    }),
    'its block is there when the card is again': good => {
      const { blocks, reading } = keptBeside()
      const { pins } = reading(good)
      return {
        cards: {
          remove: async card => {
            blocks.set(keyOf(card), await good.pins.readBlock(card))
            await good.cards.remove(card)
          },
        },
        pins: {
          ...pins,
          readBlock: async (card, options) =>
            (await good.cards.find(card)) && (await pins?.readBlock?.(card, options)),
        },
      }
    },
    'its PRW stays': good => {
      const { prws, reading } = keptBeside()
      return {
        ...reading(good),
        cards: {
          remove: async card => {
            prws.set(keyOf(card), await good.pins.readPrw(card))
            await good.cards.remove(card)
          },
        },
      }
    },
    'its change counter goes with it': ({ cards }) => {
      let isRemoved = false
      return {
        cards: {
          remove: card => {
            isRemoved = true
            return cards.remove(card)
          },
        },
        counter: ({ read }) => ({ read: async key => (isRemoved ? undefined : read(key)) }),
      }
    },
    'a card that is not there cannot be removed': ({ cards }) => ({
      cards: {
        remove: async card => {
          if ((await cards.find(card)) === undefined) throw noSuchCard()
          await cards.remove(card)
        },
      },
    }),
  },

  'what is no card is refused before it is stored': {
    'a card that is no object is taken': ({ cards }) => ({
      cards: { put: async (card, record) => (isObject(record) ? cards.put(card, record) : undefined) },
    }),
    'an unknown member is taken': taken(card => 'expiry' in card),
    'an unknown state is taken': taken(card => card['state'] === 'blocked'),
    'an inherited state is taken': taken(card => card['state'] === 'valueOf'),
    'a PAN as text is taken': taken(card => card['pan'] === OTHER_PAN),
    'types that are no list are taken': taken(card => typeof card['setPinTypes'] === 'string'),
    'an unknown type is taken': taken(
      card => String(card['setPinTypes']) === 'ISO1' && Array.isArray(card['setPinTypes']),
    ),
    'a PCC is taken': taken(card => isObject(card['seccos']) && 'pcc' in card['seccos']),
    'an unknown member of seccos is taken': taken(
      card => isObject(card['seccos']) && 'psn' in card['seccos'],
    ),
    'fields that are no object are taken': taken(
      ({ seccos }) => isObject(seccos) && Reflect.get(seccos, 'fields') === 'psn',
    ),
    'a field that is a number is taken': taken(
      ({ seccos }) => JSON.stringify(seccos) === '{"fields":{"psn":1}}',
    ),
    'a state that is none is taken': lenient('cards', 'setState', 'ERR_ARGUMENT'),
    'what is refused is stored': ({ cards }) => ({
      cards: {
        put: (card, record) =>
          cards.put(card, record).catch(async error => {
            await cards.put(card, PLAIN)
            throw error
          }),
      },
    }),
  },

  'a card is named by issuerId and cardId': {
    ...Object.fromEntries(
      NAMING.flatMap(([part, names]) =>
        names.map(name => [`${name} takes any card`, lenient(part, name, 'ERR_ARGUMENT')]),
      ),
    ),
    'there is a counter of any issuer': ({ counters }) => ({
      counters: issuerId => counters(/^.{10}$/.test(issuerId) ? issuerId : CARD.issuerId),
    }),
    'a cardId is not looked for': named(card => !('cardId' in card) && 'issuerId' in card),
    'an issuerId may be short': named(card => card['issuerId'] === 'short'),
    'an issuerId may have a quote': named(card => String(card['issuerId']).includes("'")),
    'a cardId may be empty': named(card => card['cardId'] === ''),
    'a cardId may have a slash': named(card => String(card['cardId']).includes('/')),
    'a cardId may be long': named(card => String(card['cardId']).length > 48),
    'a cardId may be a number': named(card => card['cardId'] === 1),
    'a card may be none': ({ cards }) => ({
      cards: { find: async (card, options) => card && cards.find(card, options) },
    }),
    'a card may be empty': named(card => Object.keys(card).length === 0),
  },

  'a signal that has fired stops a reading call': {
    'find does not look at it': ({ cards }) => ({ cards: { find: card => cards.find(card) } }),
    'readBlock does not look at it': ({ pins }) => ({ pins: { readBlock: card => pins.readBlock(card) } }),
    'readPrw does not look at it': ({ pins }) => ({ pins: { readPrw: card => pins.readPrw(card) } }),
    'any signal stops it': ({ cards }) => ({
      cards: {
        find: async (card, options) => {
          if (options?.signal !== undefined) throw new AbortedError(undefined)
          return cards.find(card)
        },
      },
    }),
  },
}

/** What can be put again of a card that was found. */
export function plain({ revision: _, foundAt: __, ...card }: Card): Card {
  return card
}
