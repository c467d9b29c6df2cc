/** For Stryker's runs: a property has found its counterexample, or it has not, within a moment; shrinking tells no more. */
import fc from 'fast-check'

fc.configureGlobal({ endOnFailure: true, interruptAfterTimeLimit: 250 })
