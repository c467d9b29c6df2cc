/**
 * One HTTP exchange: a request, a status, a body of bounded size. Redirects are not followed: D1 has none, and a token
 * or a card must not go where a redirect points.
 */
import type { Deadline } from './deadline.js'

/** Longest response body that is read: D1's longest member has 8192 characters. */
export const MAX_RESPONSE_BYTES = 65_536

/** What a {@link D1Fetch} is given beside the URL. */
export interface FetchInit {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
  /** A redirect comes back as it is, and is then refused: with `error`, an operator could not tell it from an outage. */
  readonly redirect: 'manual'
  readonly signal: AbortSignal
}

/** What is read of a response; the platform's `Response` is one. */
export interface FetchResponse {
  readonly status: number
  readonly headers: {
    /** The value of a header, by its name in any case. */
    get(name: string): string | null
  }
  readonly body: AsyncIterable<Uint8Array> | null
}

/**
 * How requests are sent: the part of `fetch` that is used here. The platform's own fits, undici's with an Agent that
 * holds the client certificate, and `mtlsFetch`. It must obey `signal`; a call ends in time even where it does not.
 *
 * @example
 * ```ts
 * import { Agent, fetch } from 'undici'
 * const dispatcher = new Agent({ connect: { cert, key: privateKeyPem, ca } })
 * const client = d1Client({ fetch: (url, init) => fetch(url, { ...init, dispatcher }), … })
 * ```
 */
export type D1Fetch = (url: string, init: FetchInit) => Promise<FetchResponse>

/** What came back. */
export interface Answer {
  readonly status: number
  readonly retryAfter: string | null
  /** Undefined where it was longer than {@link MAX_RESPONSE_BYTES}; the rest was not read then. */
  readonly body: Uint8Array | undefined
}

/** Sends one request and reads the answer, until the deadline. Rejects with what `fetch` or the stream raises. */
export async function exchange(
  fetch: D1Fetch,
  url: string,
  init: Omit<FetchInit, 'redirect' | 'signal'>,
  deadline: Deadline,
): Promise<Answer> {
  const { signal } = deadline
  const send = async (): Promise<FetchResponse> => fetch(url, { ...init, redirect: 'manual', signal })
  const response = await deadline.race(send())
  const retryAfter = response.headers.get('retry-after')
  return { status: response.status, retryAfter, body: await readBody(response.body, deadline) }
}

async function readBody(
  body: AsyncIterable<Uint8Array> | null,
  deadline: Deadline,
): Promise<Uint8Array | undefined> {
  const stream = (body ?? nothing())[Symbol.asyncIterator]()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for (;;) {
      const { done, value } = await deadline.race(stream.next())
      if (done === true) return Buffer.concat(chunks)
      length += value.length
      if (length > MAX_RESPONSE_BYTES) return undefined
      chunks.push(value)
    }
  } finally {
    // Closes the stream where it was not read to its end. Nobody waits for that, and it has nothing to say.
    void stream.return?.().catch(() => {})
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
