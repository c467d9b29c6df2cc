/** Entry of the worker thread: a thread does not inherit the loader of the test run. */
import { tsImport } from 'tsx/esm/api'

await tsImport('./worker.ts', import.meta.url)
