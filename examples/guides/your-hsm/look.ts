import { openKeyStore, pkcs11Backend } from 'issuer-pin-crypto/pkcs11'
import { TOKEN } from './token.js'

// Opening is a test already: every mechanism is tried with a known answer, and a wrong one is ERR_PKCS11_SELF_TEST.
{
  await using backend = await pkcs11Backend(TOKEN)
  const { notes, ...can } = backend.capabilities()
  console.log(can)
  for (const note of notes) console.log('-', note)
  console.log(await backend.health())
}

// What stands in the token, and what binding each key would say.
{
  await using store = await openKeyStore(TOKEN)
  console.table(
    (await store.listKeys()).map(({ kid, usage, algorithm, checkValue, problem }) => ({
      kid,
      usage,
      algorithm,
      kcv: checkValue?.value,
      problem,
    })),
  )
}
