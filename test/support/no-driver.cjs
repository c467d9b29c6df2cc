// Preloaded: this Node loads none of the modules that MISSING_MODULES names, as where they are not installed or compiled.
const Module = require('node:module')
const missing = (process.env.MISSING_MODULES ?? '').split(',')
const load = Module._load
Module._load = function (request, ...rest) {
  if (missing.includes(request)) throw new Error(`${request} is away`)
  return load.call(this, request, ...rest)
}
