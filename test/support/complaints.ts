/** What a stand-in of the tests saw that no sound caller does. The file of tests in which it happened fails at its end. */

const seen: string[] = []

export function complain(what: string): void {
  seen.push(what)
}

/** All there are, and none from now on. */
export function takeComplaints(): readonly string[] {
  return seen.splice(0)
}
