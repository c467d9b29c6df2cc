import http from 'node:http'
import {
  type Caller,
  type CallerAuthorization,
  type EndpointHandler,
  nodeListener,
} from 'issuer-pin-crypto/d1'

/** What `openssl x509 -in d1.pem -noout -fingerprint -sha256` says: of the certificate of today, and of the next one. */
const FINGERPRINTS = [
  '5F0C9E3A0B1D47E28C64A1F7D2B3905E6C8A7F1433D0925B8E4C6A7190BD2F31',
  'A91B77C2D4E05F6388192A3B4C5D6E7F8091A2B3C4D5E6F708192A3B4C5D6E7F',
]

/** The name is in every audit event; the issuers are those it may speak for. */
const D1: Caller = { name: 'd1', issuers: ['is_tbank01'], certificate: { sha256: FINGERPRINTS } }

/** TLS ends in Node: its server has `requestCert: true`, `rejectUnauthorized: true`, and the CA. */
export const direct: CallerAuthorization = { callers: [D1] }

/** TLS ends at nginx, which is the only one to reach the socket below. */
export const behindNginx: CallerAuthorization = {
  callers: [D1],
  proxies: [
    {
      from: { listener: 'nginx' },
      header: { certificate: 'X-SSL-Client-Cert', verify: 'X-SSL-Client-Verify' },
    },
  ],
}

export function listenBehindNginx(handler: EndpointHandler, socket: string): http.Server {
  return http.createServer(nodeListener(handler, { listener: 'nginx' })).listen(socket)
}
