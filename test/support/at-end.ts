/** What tests open and leave to be closed when their file is over: only then is it known who else has not let go. */

const opened: { close(): unknown }[] = []

/** What was opened, unchanged. */
export async function closedAtEnd<T extends { close(): unknown }>(opening: Promise<T>): Promise<T> {
  const one = await opening
  opened.push(one)
  return one
}

export async function closeAll(): Promise<void> {
  await Promise.allSettled(opened.splice(0).map(async one => one.close()))
}
