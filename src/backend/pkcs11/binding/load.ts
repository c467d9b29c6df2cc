/** The choice between the bindings: pkcs11js, which is compiled when it is installed, and koffi, which is not. */
import { BackendError, isIssuerPinError } from '../../../base/errors.js'
import type { BindingChoice, LoadBinding } from './binding.js'
import { loadKoffi } from './koffi-binding.js'
import { loadPkcs11js } from './pkcs11js-binding.js'

/**
 * The {@link LoadBinding} of a choice. Its errors: `ERR_PKCS11_UNAVAILABLE` (the one that was chosen is not installed;
 * with `auto`, neither is), `ERR_PKCS11_MODULE`.
 */
export function loaderOf(choice: BindingChoice): LoadBinding {
  if (choice === 'auto') return loadEither
  return choice === 'koffi' ? loadKoffi : loadPkcs11js
}

const loadEither: LoadBinding = async modulePath => {
  try {
    return await loadPkcs11js(modulePath)
  } catch (error) {
    if (!isUnavailable(error)) throw error
    return loadWithout(modulePath, error)
  }
}

async function loadWithout(modulePath: string, cause: unknown): ReturnType<LoadBinding> {
  try {
    return await loadKoffi(modulePath)
  } catch (error) {
    if (!isUnavailable(error)) throw error
    throw new BackendError(
      'ERR_PKCS11_UNAVAILABLE',
      'neither pkcs11js nor koffi loads: run `npm install koffi` (prebuilt), or `npm install pkcs11js` (compiles on installation and needs python3, make and a C++ compiler)',
      { cause },
    )
  }
}

function isUnavailable(error: unknown): boolean {
  return isIssuerPinError(error) && error.code === 'ERR_PKCS11_UNAVAILABLE'
}
