// For `issuer-pin-crypto storage`: it opens store and keys, so that neither a key nor a password is on the command line.
import { readFile } from 'node:fs/promises'
import { pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { openPostgresIssuerStore, panSealer } from 'issuer-pin-crypto/postgres'

const { PKCS11_MODULE, PKCS11_TOKEN = 'issuer', SECRETS = '/run/secrets' } = process.env
const secret = async name => (await readFile(`${SECRETS}/${name}`, 'utf8')).trim()

export default async () => {
  const backend = await pkcs11Backend({
    module: PKCS11_MODULE,
    token: PKCS11_TOKEN,
    pin: () => secret('token-pin'),
  })
  const pin = { usage: 'pin-encryption' }
  return {
    // The old key deciphers on the host; leave that out where the token re-enciphers inside.
    from: await backend.bind({ ...pin, kid: 'STORE-1', hostDecipher: true }),
    to: await backend.bind({ ...pin, kid: 'STORE-2' }),
    store: await openPostgresIssuerStore({
      // postgres://issuer:password@db.internal/issuer?sslmode=verify-full
      connectionString: await secret('database-url'),
      panSealer: panSealer({
        keys: [{ kid: 'PAN-1', key: Buffer.from(await secret('pan-seal.hex'), 'hex') }],
      }),
    }),
    close: () => backend.close(),
  }
}
