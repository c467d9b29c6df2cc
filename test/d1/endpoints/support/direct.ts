/** The handler without a socket: requests for it, and a world of its own for each test file. */
import { afterAll, beforeAll, beforeEach } from 'vitest'
import type { EndpointHandler } from '../../../../src/d1.js'
import { JSON_TYPE, pinPath, World } from './world.js'

export const ORIGIN = 'https://issuer.test'

export const get = (path: string, init?: RequestInit): Request => new Request(ORIGIN + path, init)
export const put = (body: string, init?: object, path: string = pinPath('card-1')): Request =>
  get(path, { method: 'PUT', headers: JSON_TYPE, body, ...init })
export const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

/** A promise, and what resolves it. */
export function held(): { readonly until: Promise<void>; readonly release: () => void } {
  let release = (): void => {}
  const until = new Promise<void>(resolve => {
    release = resolve
  })
  return { until, release: () => release() }
}

/** Opens a world before the tests of a file; its handler asks for no token. */
export function useWorld(): { readonly world: World; readonly handler: EndpointHandler } {
  let world: World
  let handler: EndpointHandler
  beforeAll(async () => {
    world = await World.open()
    handler = world.handler({ authorization: 'anyone-who-reaches-it', tokenEndpoint: undefined })
  })
  afterAll(() => world[Symbol.asyncDispose]())
  beforeEach(() => {
    world.events.length = 0
    world.causes.length = 0
  })
  return {
    get world() {
      return world
    },
    get handler() {
      return handler
    },
  }
}
