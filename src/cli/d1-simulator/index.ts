/**
 * A counterpart that plays Thales D1 against an issuer's service, over real mTLS. It shares no code with the library:
 * only node:*, jose and node-forge (test/architecture.test.ts), so that both sides agree because both follow the
 * published formats.
 */
export { GROUPS, type Group } from './case.js'
export type { CardConfig, SharedKeyConfig, SimulatorConfig } from './config.js'
export { ConfigError } from './problems.js'
export { COLUMNS, cellsOf, jsonReport, type Summary, summarize, summaryLine } from './report.js'
export { type Result, type SimulateOptions, simulateD1 } from './run.js'
