/**
 * A counterpart that plays Thales D1 against an issuer's service, over real mTLS. It shares no code with the library:
 * only node:*, jose and node-forge (test/architecture.test.ts), so that both sides agree because both follow the
 * published formats.
 */
export { GROUPS, type Group } from './case.js'
export type { CardConfig, SharedKeyConfig, SimulatorConfig } from './config.js'
export { type GivenMembers, MEMBER_OPTIONS, memberHelp } from './members.js'
export { ConfigError } from './problems.js'
export { MAX_BYTES, readRegularFile, type Unreadable } from './regular-file.js'
export { COLUMNS, cellsOf, jsonReport, type Summary, summarize, summaryLine } from './report.js'
export { CASES, fullName, type Result, type SimulateOptions, simulateD1 } from './run.js'
export type { ConfigSource } from './setup.js'
